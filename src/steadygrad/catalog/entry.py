"""The form of one catalog entry."""

from __future__ import annotations

from dataclasses import dataclass

from steadygrad.records import Remedy

GUARD_CODE = "guard = steadygrad.guard(model, optimizer)"
"""Code of the remedy that a guarded run has taken already."""

TRACE = Remedy("Find the operation, the line and the rows", "print(steadygrad.trace(model, batch, loss_fn))")
"""Wherever a number isn't finite: one replayed step tells what `detect_anomaly` would, without its standing cost."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known about one way in which a training run goes wrong.

    Attributes:
        kind: stable name in snake_case; the ``kind`` of a `steadygrad.records.Finding`.
        title: the name a person would use, without a full stop.
        meaning: what it is, one sentence.
        causes: what may be behind it, the likeliest first.
        remedies: what to change, the best first.
        verify: how to see that it is cured, one sentence.
        reference: paper with arXiv id and section, or the page of the documentation.
    """

    kind: str
    title: str
    meaning: str
    causes: tuple[str, ...]
    remedies: tuple[Remedy, ...]
    verify: str
    reference: str
