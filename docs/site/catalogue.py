"""Pages that are made while the site is built, so that they never say something else than the code.

A hook of mkdocs: one page for each kind of finding, from the catalog and its reproduction, one with every
command, from the commands' own help, and the measured tables, from the results. Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from cures import CURES
from mkdocs.structure.files import File, Files

from steadygrad.catalog import CATALOG, Entry
from steadygrad.cli.program import program

DOCS = Path(__file__).parents[1]
REPRODUCTIONS = DOCS / "reproductions"
PICTURES = DOCS / "pictures"
RESULTS = DOCS.parent / "benchmarks" / "RESULTS.md"
WORKLOADS = ("transformer", "lstm", "deep_mlp")


def on_config(config: Any) -> Any:
    """Put the pages of the findings into the navigation."""
    findings = next(entry["Findings"] for entry in config["nav"] if "Findings" in entry)
    findings[1:] = [{kind: f"findings/{kind}.md"} for kind in CATALOG]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    pages = {f"findings/{kind}.md": finding_page(entry) for kind, entry in CATALOG.items()}
    pages["findings/index.md"] = overview()
    pages["commands.md"] = commands_page()
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what was measured."""
    if page.file.src_uri != "comparison.md":
        return markdown
    results = RESULTS.read_text(encoding="utf-8")
    return markdown.replace("--cost--", _costs(results)).replace("--origins--", _origins(results))


def _costs(results: str) -> str:
    """Step time beside plain training, by variant and workload."""
    found: dict[str, list[str]] = {}
    for workload in WORKLOADS:
        table = results.partition(f"### {workload}, adamw:")[2].partition("\n### ")[0]
        for line in table.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) > 5 and re.fullmatch(r"[0-9.]+", cells[2]):
                found.setdefault(cells[0], []).append(cells[2])
    rows = [[name, *ratios] for name, ratios in found.items() if len(ratios) == len(WORKLOADS)]
    return "\n".join(f"| {' | '.join([f'`{name}`', *ratios])} |" for name, *ratios in rows)


def _origins(results: str) -> str:
    row = re.search(r"^\| all \| (\d+) .*\| ([0-9.]+ ?%) \|$", results, re.MULTILINE)
    return f"| {row[1]} | {row[2]} |" if row else "| | |"


def overview() -> str:
    """All kinds in a table."""
    rows = [f"| [`{kind}`]({kind}.md) | {_plain(entry.meaning)} |" for kind, entry in CATALOG.items()]
    return "\n".join([_OVERVIEW, *rows, ""])


def finding_page(entry: Entry) -> str:
    """One kind: what it is, why, what to change, how to see that it is cured, and a training that shows it."""
    return "\n".join([*_explained(entry), *_shown(entry.kind)])


def _explained(entry: Entry) -> Iterator[str]:
    yield f"# {entry.title}"
    yield f"\n`{entry.kind}`\n\n{_plain(entry.meaning)}\n"
    alt = (PICTURES / f"{entry.kind}.txt").read_text(encoding="utf-8").strip()
    yield f"![{alt}](../pictures/{entry.kind}.svg){{ .plot }}\n"
    yield "## Why it happens\n"
    yield "The likeliest first.\n"
    yield from (f"{place}. {_plain(cause)}" for place, cause in enumerate(entry.causes, 1))
    yield "\n## What to change\n"
    for place, remedy in enumerate(entry.remedies, 1):
        yield f"{place}. {_plain(remedy.action)}" + (":" if remedy.code else ".")
        if remedy.code:
            yield f"\n    ```text\n    {remedy.code}\n    ```\n"
    yield f"\n## How to see that it is cured\n\n{_plain(entry.verify)}\n"
    yield f"## Where to read on\n\n{_linked(entry.reference)}\n"


def _shown(kind: str) -> Iterator[str]:
    source = (REPRODUCTIONS / f"{kind}.py").read_text(encoding="utf-8")
    _, story, code = source.split('"""', 2)
    yield f"## A training that shows it\n\n{story}\n\n```python\n{code.strip()}\n```\n"
    fault, cure = (text.strip() for text in CURES[kind])
    instead = f"With `{cure}` in place of `{fault}`" if cure else f"Without `{fault}`"
    printed = REPRODUCTIONS / f"{kind}.out"
    if printed.exists():
        yield f"It prints\n\n```text\n{printed.read_text(encoding='utf-8').rstrip()}\n```\n"
    yield f"{instead} it doesn't say so any more.\n"


def _plain(text: str) -> str:
    """Text in which no character means anything to Markdown, as the terminal shows it."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", text).replace("<", "&lt;")


def _linked(reference: str) -> str:
    words = [f"<{word}>" if word.startswith("https://") else word for word in reference.split()]
    return " ".join(words)


def commands_page() -> str:
    """Every command with its help."""
    context = click.Context(program, info_name="steadygrad")
    parts = [_COMMANDS]
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        if command is not None:
            inner = click.Context(command, info_name=name, parent=context)
            parts.append(f"## steadygrad {name}\n\n```{{ .text .help }}\n{command.get_help(inner)}\n```\n")
    return "\n".join(parts)


_OVERVIEW = """# Findings

A finding has a kind, a severity (`info`, `warning`, `error`), the step, the tensors or modules, the evidence
as numbers, causes and remedies with the likeliest first, and a reference. `guard.findings` holds them,
`guard.summary()` and `steadygrad explain RUN` tell them: one root cause once, with what came of it below.

| kind | what it is |
| --- | --- |"""

_COMMANDS = """# Commands

No command needs torch, except `demo`, `check` and the script of `run`: what a cluster recorded, a laptop
explains. Exit codes: 0 done, 1 it can't be done (or `check` found something), 2 wrong usage, 130 Ctrl-C.
`STEADYGRAD_QUIET=1` silences the lines on stderr.
"""
