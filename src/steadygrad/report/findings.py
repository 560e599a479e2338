"""One card in a terminal: what was found, why, what to try, what came of it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from steadygrad.report.cards import Card
from steadygrad.report.layout import LABEL_WIDTH, Code, Paragraph
from steadygrad.report.wording import visible

STYLES = {
    "error": "bold red",
    "warning": "bold yellow",
    "held": "bold yellow",
    "info": "bold cyan",
    "healthy": "bold green",
}


def tell(card: Card) -> Iterator[RenderableType]:
    """Tell one card.

    Args:
        card: its words.

    Yields:
        What to print, line by line.
    """
    yield Text()
    yield _headline(card)
    yield Paragraph(card.summary)
    if card.where:
        yield Paragraph(card.places, "where")
    if card.numbers:
        yield Paragraph(", ".join(f"{name} {value}" for name, value in card.numbers), "numbers")
    yield from _advice(card) if card.told_at is None else (Paragraph(f"as in {card.told_at}.", "why, try"),)
    if card.again:
        yield Paragraph(card.again, "again")
    for i, line in enumerate(card.then):
        yield Paragraph(line, "" if i else "then")


def _headline(card: Card) -> Text:
    line = Text(f"  {card.place}. ")
    line.append(card.severity, style=STYLES[card.severity])
    line.append(f"  {card.title}", style="bold")
    which = f", optimizer {card.optimizer}" if card.optimizer else ""
    return line.append(f" ({visible(card.kind)}), step {card.step:,}{which}")


def _advice(card: Card) -> Iterator[RenderableType]:
    for i, cause in enumerate(card.causes, 1):
        yield from _numbered(cause, i, "why")
    for i, remedy in enumerate(card.remedies, 1):
        yield from _numbered(remedy.action + (":" if remedy.code else ""), i, "try")
        yield Code(remedy.code)
    if card.verify:
        yield Paragraph(card.verify, "verify")
    if card.reference:
        yield Paragraph(card.reference, "read")


def _numbered(text: str, i: int, label: str) -> Iterator[RenderableType]:
    yield Paragraph(
        text, f"{label:<{LABEL_WIDTH}}{i}." if i == 1 else f"{'':<{LABEL_WIDTH}}{i}.", label_width=13
    )
