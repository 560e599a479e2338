"""Data in which nothing differs: inputs that are one number everywhere, targets that are all alike."""

from __future__ import annotations

from collections.abc import Sequence

from steadygrad.detect.finding import make
from steadygrad.records import Finding, Severity

LEAST_ROWS = 8
"""Fewer rows may be alike by chance, or by design."""

LEAST_TARGETS = 192
"""Targets that must be alike before it is more than a note: of a class with a share of 1 in 50, so many have none in
one case of 48."""


def constant_input(
    step: int,
    number: float | None,
    rows: int | None,
    where: Sequence[str],
    *,
    looks: int = 1,
    guarded: bool = False,
) -> Finding:
    """Whatever enters the model is the same.

    Args:
        step: of the look.
        number: the one number that everything is; None where each row holds several, and all rows are the same.
        rows: how many there are; None where that isn't known.
        where: modules that the data enters.
        looks: how often this was seen.
        guarded: a guard is attached.
    """
    seen = f", in {looks} looks at the data" if looks > 1 else ""
    into = ", ".join(where[:3]) or "the model"
    what = (
        f"Every number that enters {into} is {number:.4g}"
        if number is not None
        else f"All {rows} rows of what enters {into} are the same"
    )
    return make(
        "constant_input",
        "warning",
        step,
        f"{what}{seen}: nothing tells one example from another, so nothing but a constant can be learnt.",
        where=["input", *where],
        evidence={
            "looks": looks,
            **({} if rows is None else {"rows": rows}),
            **({} if number is None else {"value": number}),
        },
        guarded=guarded,
    )


def constant_targets(step: int, value: float, count: int, *, labels: bool, guarded: bool = False) -> Finding:
    """All targets are alike: a note where that may be chance.

    Args:
        step: of the look.
        value: what they all are.
        count: how many there are.
        labels: whether they are classes.
        guarded: a guard is attached.
    """
    severity: Severity = "warning" if count >= LEAST_TARGETS else "info"
    what = f"All {count} labels are class {value:.0f}" if labels else f"All {count} targets are {value:.4g}"
    return make(
        "constant_targets",
        severity,
        step,
        f"{what}: a constant answer gets the best loss there is, and the model learns nothing else.",
        where=["targets"],
        evidence={"targets": count, "value": value},
        guarded=guarded,
    )
