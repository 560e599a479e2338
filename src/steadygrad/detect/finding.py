"""Findings are made here: the numbers come from a detector, the advice from the catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from steadygrad.catalog import GUARD_CODE, entry
from steadygrad.records import Finding, Severity

MAX_SUMMARY = 200
"""Characters in a summary: it must fit on two lines of a terminal."""

MAX_WHERE = 16
"""Names in ``where``: nobody reads more, and a run of 10,000 tensors must not store them all."""

_MAX_LISTED = 3
_LIST_WIDTH = 84


def at_rate(lr: float) -> str:
    """`` (learning rate 0.1)``, for the end of a sentence; nothing in a loop by hand, which tells none.

    Example:
        >>> at_rate(0.1)
        ' (learning rate 0.1)'
    """
    return f" (learning rate {lr:.3g})" if lr > 0.0 else ""


def make(
    kind: str,
    severity: Severity,
    step: int,
    summary: str,
    *,
    where: Sequence[str] = (),
    evidence: Mapping[str, float] | None = None,
    optimizer: int = 0,
    guarded: bool = False,
) -> Finding:
    """Build a finding, with causes, remedies and reference from the catalog.

    Args:
        kind: key of `steadygrad.catalog.CATALOG`.
        severity: ``info``, ``warning`` or ``error``.
        step: the step at which it began.
        summary: one sentence with its numbers; cut at `MAX_SUMMARY` characters.
        where: qualified names, the most telling first; cut at `MAX_WHERE`.
        evidence: the numbers behind it.
        optimizer: index of the optimizer.
        guarded: a guard is attached already, so that attaching one is no remedy.

    Returns:
        The finding.

    Raises:
        UsageError: the catalog has no such kind.
    """
    known = entry(kind)
    return Finding(
        kind=kind,
        severity=severity,
        step=step,
        where=tuple(where[:MAX_WHERE]),
        summary=_shortened(summary, MAX_SUMMARY),
        evidence=MappingProxyType({name: float(value) for name, value in (evidence or {}).items()}),
        causes=known.causes,
        remedies=tuple(one for one in known.remedies if not guarded or one.code != GUARD_CODE),
        reference=known.reference,
        optimizer=optimizer,
    )


def listed(names: Sequence[str]) -> str:
    """Up to three names in a row, the rest as a number.

    Example:
        >>> listed(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    shown: list[str] = []
    for name in names[:_MAX_LISTED]:
        short = _shortened(name, _LIST_WIDTH // 2)
        if shown and sum(map(len, shown)) + len(short) > _LIST_WIDTH:
            break
        shown.append(short)
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
