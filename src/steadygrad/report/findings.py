"""One chapter of the story: what was found, why, what to try, what came of it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from steadygrad.catalog import CATALOG
from steadygrad.records import Finding
from steadygrad.report.chapters import Chapter
from steadygrad.report.layout import LABEL_WIDTH, Code, Paragraph
from steadygrad.report.verdict import title
from steadygrad.report.wording import number, plural, some, visible

STYLES = {
    "error": "bold red",
    "warning": "bold yellow",
    "held": "bold yellow",
    "info": "bold cyan",
    "healthy": "bold green",
}
MOST_NAMES = 4
MOST_STEPS = 5


def tell(chapter: Chapter, place: int, told_at: int | None = None) -> Iterator[RenderableType]:
    """Tell one chapter.

    Args:
        chapter: the root finding with what belongs to it.
        place: its number in the story.
        told_at: number of the chapter that has already told the same causes and remedies.

    Yields:
        What to print, line by line.
    """
    root = chapter.root
    yield Text()
    yield _headline(chapter, place)
    yield Paragraph(root.summary)
    if root.where:
        yield Paragraph(some(root.where, MOST_NAMES), "where")
    if root.evidence:
        yield Paragraph(", ".join(f"{visible(k)} {number(v)}" for k, v in root.evidence.items()), "numbers")
    yield from _advice(root) if told_at is None else (Paragraph(f"as in {told_at}.", "why, try"),)
    if chapter.repeats:
        yield Paragraph(_again(chapter.repeats), "again")
    for i, finding in enumerate(chapter.consequences):
        line = f"step {finding.step:,}, {visible(finding.kind)}: {finding.summary}"
        yield Paragraph(line, "" if i else "then")


def _headline(chapter: Chapter, place: int) -> Text:
    root = chapter.root
    line = Text(f"  {place}. ")
    line.append(chapter.severity, style=STYLES[chapter.severity])
    line.append(f"  {title(root.kind)}", style="bold")
    which = f", optimizer {root.optimizer}" if root.optimizer else ""
    return line.append(f" ({visible(root.kind)}), step {root.step:,}{which}")


def _advice(root: Finding) -> Iterator[RenderableType]:
    for i, cause in enumerate(root.causes, 1):
        yield from _numbered(cause, i, "why")
    for i, remedy in enumerate(root.remedies, 1):
        yield from _numbered(remedy.action + (":" if remedy.code else ""), i, "try")
        yield Code(remedy.code)
    if root.kind in CATALOG:
        yield Paragraph(CATALOG[root.kind].verify, "verify")
    if root.reference:
        yield Paragraph(root.reference, "read")


def _numbered(text: str, i: int, label: str) -> Iterator[RenderableType]:
    yield Paragraph(
        text, f"{label:<{LABEL_WIDTH}}{i}." if i == 1 else f"{'':<{LABEL_WIDTH}}{i}.", label_width=13
    )


def _again(repeats: list[Finding]) -> str:
    steps = ", ".join(f"{finding.step:,}" for finding in repeats[:MOST_STEPS])
    rest = len(repeats) - MOST_STEPS
    return f"{plural(len(repeats), 'time')}, at step {steps}" + (f" and {rest:,} more" if rest > 0 else "")
