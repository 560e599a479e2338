"""From events to the Origin that a person reads."""

from __future__ import annotations

from steadygrad.origin import Origin
from steadygrad.tracing.events import Event, to_blame
from steadygrad.tracing.finiteness import broken_rows


def origin_of(broken: Event, batch_size: int | None, note: str = "") -> Origin:
    """Tell where a broken number comes from.

    Args:
        broken: the event that broke the loss or a gradient.
        batch_size: rows of the batch, where known.
        note: what to add.
    """
    first, later = to_blame(broken)
    return Origin(
        phase=first.phase,
        kind=first.kind,
        operation=first.operation,
        module=first.module,
        module_type=first.module_type,
        file=first.line.file,
        lineno=first.line.lineno,
        source=first.line.source,
        inputs=first.inputs,
        rows=_rows(first, later, batch_size),
        path=_path(first, later),
        note=" ".join(text for text in (first.note, note) if text),
    )


def _rows(first: Event, later: tuple[Event, ...], batch_size: int | None) -> tuple[int, ...]:
    """From the guilty operation, or the next one whose output still has the batch's rows."""
    for event in (first, *later):
        if event.phase == first.phase and (rows := broken_rows(event.output, batch_size)):
            return rows
    return ()


def _path(first: Event, later: tuple[Event, ...]) -> tuple[str, ...]:
    passed = [event.module for event in later if event.module is not None and event.module != first.module]
    return tuple(dict.fromkeys(passed))
