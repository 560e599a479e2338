"""What the documentation shows runs, and whatever a person can type or meet is in it."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
import torch

import steadygrad as sg
from steadygrad import policies
from steadygrad.cli.program import SUBCOMMANDS, program

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
POLICIES = [name for name in policies.__all__ if name.islower() and callable(getattr(policies, name))]


def text_of(page):
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page, language):
    """Fenced blocks of a language; what is taken in from a file is tested there."""
    found = re.findall(rf"^```{language}[^\n]*\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    return [block for block in found if "--8<--" not in block]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEADYGRAD_QUIET", "1")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    loader = [(torch.randn(16, 8), torch.randn(16, 1)) for _ in range(4)]
    reader = {
        "torch": torch,
        "sg": sg,
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.01),
        "loss_fn": torch.nn.functional.mse_loss,
        "loader": loader,
        "inputs": loader[0][0],
        "targets": loader[0][1],
    }
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), reader)
    left = reader.get("guard")
    if left is not None:
        left.close()
    capsys.readouterr()


def commands():
    for page in PAGES:
        for block in blocks(page, "console"):
            for line in block.strip().splitlines():
                yield pytest.param(line, id=line)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A recorded run."""
    path = tmp_path_factory.mktemp("run") / "a.steady"
    model = torch.nn.Linear(2, 1)
    with sg.watch(model, torch.optim.SGD(model.parameters(), lr=0.1), run=path):
        pass
    return path


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_can_be_typed_as_it_stands(line, run, tmp_path, monkeypatch):
    name, *words = shlex.split(line)[1:]
    monkeypatch.chdir(tmp_path)
    for word in words:
        if word.endswith(".steady"):
            Path(word).parent.mkdir(exist_ok=True)
            shutil.copy(run, word)
    command = program.get_command(click.Context(program), name)
    assert command is not None, f"no command {name}"
    if name != "run":  # whose arguments are the script's from its name on
        command.make_context(name, words)
        return
    known = {option for parameter in command.params for option in parameter.opts} | {"-m"}
    own = words[: next((i for i, word in enumerate(words) if word.endswith(".py")), len(words))]
    assert {word for word in own if word.startswith("-") and word != "--epochs"} <= known


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_command_and_option_is_shown_in_use(name):
    shown = "\n".join(block for page in PAGES for block in blocks(page, "console"))
    if name != "demo":  # which make demo calls
        assert f"steadygrad {name}" in shown


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_explained(name):
    assert f"| `{name}(" in text_of("policies.md")
    assert f"::: steadygrad.policies.{name}\n" in text_of("api/policies.md")


def test_every_series_of_a_reading_has_its_unit():
    series = set(re.findall(r"^\| `(\w+)` \|", text_of("metrics.md"), re.MULTILINE))
    fields = set(sg.Reading.__dataclass_fields__) - {"step", "optimizer"}
    assert fields <= series


def test_every_public_name_is_in_the_reference():
    told = "\n".join(text_of(page) for page in PAGES if page.startswith("api/"))
    for name in set(sg.__all__) - {"errors", "initialise", "policies", "recover", "sinks", "__version__"}:
        assert re.search(rf"^::: steadygrad\S*\.{name}$", told, re.MULTILINE), name
