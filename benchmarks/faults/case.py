"""What a case is, and the register that the files of `faulty/` and `healthy/` fill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.faults.training import Training

Builder = Callable[[], Training]


@dataclass(frozen=True)
class Case:
    """One training and what there is to say about it.

    Attributes:
        name: name of the function that builds it.
        family: cases that share what is wrong, or for healthy ones what they are; whole families are used for
            tuning or for judging, see `benchmarks.faults.split`.
        build: makes the training, seeded.
        causes: kinds of finding that name the root cause; empty for a healthy training, or where the catalog
            has no such kind (`nameless`).
        faulty: whether something is wrong.
        at: step at which it happens, where that is known: what ruins the run only by and by has none.
        nonfinite: whether it shows as a NaN or an Inf at ``at``; else as a finite explosion or not at all.
        sudden: a finite explosion at ``at``, whose delay counts.
        place: modules that may be named; empty where no module is to blame.
        curable: whether a remedy without another architecture makes it train.
        steps: length of the run.
        checked: whether a look before training is possible (a plain model, batch and loss).
    """

    name: str
    family: str
    build: Builder
    causes: frozenset[str]
    faulty: bool
    at: int | None
    nonfinite: bool
    sudden: bool
    place: tuple[str, ...]
    curable: bool
    steps: int
    checked: bool


CASES: list[Case] = []


def faulty(
    family: str,
    *causes: str,
    at: int | None = None,
    nonfinite: bool = False,
    sudden: bool = False,
    place: tuple[str, ...] = (),
    curable: bool = False,
    steps: int = 100,
    checked: bool = True,
) -> Callable[[Builder], Builder]:
    """Register a faulty training; see `Case` for the arguments."""

    def register(build: Builder) -> Builder:
        kinds = frozenset(causes)
        name = build.__name__.rstrip("_")
        CASES.append(
            Case(name, family, build, kinds, True, at, nonfinite, sudden, place, curable, steps, checked)
        )
        return build

    return register


def healthy(family: str, *, steps: int = 150, checked: bool = True) -> Callable[[Builder], Builder]:
    """Register a healthy training."""

    def register(build: Builder) -> Builder:
        nothing: frozenset[str] = frozenset()
        CASES.append(
            Case(build.__name__, family, build, nothing, False, None, False, False, (), False, steps, checked)
        )
        return build

    return register
