"""A finding that only knows *that* a number is non-finite, and the Origin that knows where: one finding."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from steadygrad.catalog import GUARD_CODE, entry
from steadygrad.catalog.operations import advice
from steadygrad.origin import LOSS, Origin, Phase, named_rows
from steadygrad.records import Finding

KINDS: dict[Phase, str] = {
    "input": "nonfinite_input",
    "forward": "nonfinite_activation",
    "loss": "nonfinite_loss",
    "backward": "nonfinite_gradient",
    "optimizer": "nonfinite_parameter",
}
"""Kind of finding by the phase in which the first non-finite number was made."""


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
    # Of a fault in the batch or the loss, a part of the tensors tells which part of the model it came through; all of
    # them tell nothing, and the first of them would be taken for the place.
    all_hit = finding.evidence.get("share") == 1.0
    hit = () if origin.phase in {"input", "loss"} and not place and all_hit else finding.where
    return replace(
        finding,
        kind=known.kind,
        where=(*place, *(name for name in hit if name not in place)),
        summary=first_line(origin),
        evidence=MappingProxyType({**finding.evidence, **_numbers(origin)}),
        causes=(*(one.cause for one in own), *known.causes),
        remedies=tuple(one for one in remedies if not guarded or one.code != GUARD_CODE),
        reference=known.reference,
    )


def first_line(origin: Origin) -> str:
    """Where the number was made or lay, the rows of the batch that carry it, and the user's line, in one sentence."""
    told = str(origin).partition("\n")[0]
    first = f"{told}{_rows(origin.rows)}"
    if origin.operation == LOSS and origin.note:
        return f"{first}. {origin.note}".removesuffix(".")
    if not origin.file:
        return first
    line = f"{first} at {origin.file}:{origin.lineno}"
    return f"{line}: {origin.source}" if origin.source else line


def _rows(rows: tuple[int, ...]) -> str:
    # Before the line that is quoted, behind which they would read as code.
    return f", batch row{'s' * (len(rows) > 1)} {named_rows(rows)}" if rows else ""


def _numbers(origin: Origin) -> dict[str, float]:
    numbers = (
        {"batch rows": float(len(origin.rows)), "first batch row": float(origin.rows[0])}
        if origin.rows
        else {}
    )
    for index, one in enumerate(origin.inputs):
        numbers |= {f"input {index} low": one.low, f"input {index} high": one.high}
    return numbers
