"""What a replay found, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from steadygrad.replay.replayed import Replayed
from steadygrad.replay.trial import Outcome
from steadygrad.report.layout import Heading, Paragraph
from steadygrad.report.wording import visible


def told(found: Replayed) -> Iterator[RenderableType]:
    """The step, whether it reproduces, where it began, and the changes side by side."""
    facts = found.case.bundle.facts
    head = Text(f"step {found.case.bundle.step:,}", style="bold")
    yield head.append(f"  {visible(str(facts['run']))}", style="not bold dim")
    yield Text(visible(f"{facts['action']}: {facts['reason']}"))
    yield Text()
    yield _verdict(found)
    for note in found.notes:
        yield Paragraph(note, indent=2, label_width=0)
    yield Heading("Where it begins")
    origin = "every number of the step is finite" if found.origin is None else str(found.origin)
    for line in origin.splitlines():
        yield Text(f"  {visible(line)}")
    yield Heading("What would have come of it")
    yield _table(found)
    if found.outcomes[0].first_order:
        yield Text(
            "  Δ: change of the loss to first order, a lower bound where it is convex in the output",
            style="dim",
        )


def _verdict(found: Replayed) -> Text:
    first = found.outcomes[0]
    recorded = found.case.loss
    loss = (
        ""
        if recorded is None or first.first_order
        else f"loss {_number(first.loss)} (recorded {_number(recorded)}), "
    )
    norms = f"total norm {_number(first.total_norm)} (recorded {_number(found.case.total_norm)})"
    if first.note.startswith("can't"):
        return Text(f"The step can't be made again: {visible(first.note)}", style="red")
    if found.reproduced:
        return Text(f"Reproduced: {loss}{norms}", style="green")
    return Text(f"Not reproduced: {loss}{norms}", style="yellow")


def _table(found: Replayed) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("  change", no_wrap=True)
    by_record = found.outcomes[0].first_order
    losses = ("Δ loss",) if by_record else ("loss", "after")
    for name in (*losses, "total norm", "clip", "update", "/ weights"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for outcome in found.outcomes:
        table.add_row(*map(Text, _cells(outcome, by_record=by_record)))
    return table


def _cells(outcome: Outcome, *, by_record: bool) -> list[str]:
    label = f"  {visible(outcome.change.label)}"
    if math.isnan(outcome.update_norm) and outcome.note:
        return [label, *[""] * (5 if by_record else 6), visible(outcome.note)]
    losses = [outcome.loss_after] if by_record else [outcome.loss, outcome.loss_after]
    coef = "skipped" if outcome.skipped else f"{outcome.clip_coef:.3g}"
    state = "skipped" if outcome.skipped else "finite" if outcome.finite else "NOT FINITE"
    numbers = [_number(one) for one in (*losses, outcome.total_norm)]
    return [
        label,
        *numbers,
        "" if outcome.skipped else coef,
        _number(outcome.update_norm),
        _number(outcome.update_ratio),
        ", ".join(text for text in (state, visible(outcome.note)) if text),
    ]


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return ("Inf" if value > 0 else "-Inf") if math.isinf(value) else f"{value:.5g}"
