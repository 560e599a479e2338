"""A finding that only knows *that* a number is non-finite, and the Origin that knows where: one finding."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from steadygrad.catalog import GUARD_CODE, entry
from steadygrad.catalog.operations import advice
from steadygrad.origin import LOSS, Origin, Phase
from steadygrad.records import Finding

KINDS: dict[Phase, str] = {
    "input": "nonfinite_input",
    "forward": "nonfinite_activation",
    "loss": "nonfinite_loss",
    "backward": "nonfinite_gradient",
    "optimizer": "nonfinite_parameter",
}
"""Kind of finding by the phase in which the first non-finite number was made."""


_MOST_ROWS = 8


def blamed(finding: Finding, origin: Origin, *, guarded: bool = False) -> Finding:
    """The finding told again, from where the fault began.

    Args:
        finding: a non-finite gradient or loss, as a detector saw it.
        origin: where the number was made.
        guarded: a guard is attached already, so that attaching one is no remedy.

    Returns:
        A finding of the kind that belongs to the origin's phase. The operation's own cause and remedy
        come first; what the detector saw stays in the evidence.

    Example:
        >>> finding = Finding("nonfinite_gradient", "error", 3, ("head.weight",), "NaN in 4 of 4 gradients")
        >>> told = blamed(finding, Origin("forward", "nan", "aten.log", "head", "Head"))
        >>> told.kind, told.where[0], told.causes[0]
        ('nonfinite_activation', 'head', 'The logarithm of 0 or of a negative number.')
    """
    known = entry(KINDS[origin.phase])
    special = advice(origin.operation)
    own = () if special is None else (special,)
    remedies = (*(one.remedy for one in own), *known.remedies)
    place = () if origin.module is None else (origin.module or "the model",)
    return replace(
        finding,
        kind=known.kind,
        where=(*place, *(name for name in finding.where if name not in place)),
        summary=first_line(origin),
        evidence=MappingProxyType({**finding.evidence, **_numbers(origin)}),
        causes=(*(one.cause for one in own), *known.causes),
        remedies=tuple(one for one in remedies if not guarded or one.code != GUARD_CODE),
        reference=known.reference,
    )


ROWS = 4
"""Rows that a sentence names."""


def first_line(origin: Origin) -> str:
    """Where the number was made or lay, and the user's line, in one sentence."""
    first = str(origin).partition("\n")[0]
    if origin.phase == "input" and origin.rows:
        few = ", ".join(map(str, origin.rows[:ROWS]))
        return f"{first}: in row{'s' * (len(origin.rows) > 1)} {few}{', ...' * (len(origin.rows) > ROWS)}"
    if origin.operation == LOSS and origin.note:
        return f"{first}. {origin.note}".removesuffix(".")
    return f"{first} at {origin.file}:{origin.lineno}: {origin.source}".rstrip(": ") if origin.file else first


def rows_told(origin: Origin) -> str:
    """Which rows of the batch carry it, to be put behind a sentence; empty where that isn't known."""
    shown = ", ".join(map(str, origin.rows[:_MOST_ROWS]))
    more = " ..." if len(origin.rows) > _MOST_ROWS else ""
    return f", batch row{'s' * (len(origin.rows) > 1)} {shown}{more}" if origin.rows else ""


def _numbers(origin: Origin) -> dict[str, float]:
    numbers = (
        {"batch rows": float(len(origin.rows)), "first batch row": float(origin.rows[0])}
        if origin.rows
        else {}
    )
    for index, one in enumerate(origin.inputs):
        numbers |= {f"input {index} low": one.low, f"input {index} high": one.high}
    return numbers
