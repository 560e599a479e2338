"""What has been seen of a script's trainings, in plain numbers: told after torch may be gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # It imports numpy, which reads its settings from the environment: not before the script has.
    from steadygrad.records import Finding


@dataclass(slots=True)
class Training:
    """One model in training.

    Attributes:
        mode: ``watch`` or ``guard``.
        model: class of the model.
        run: path of the run file; None where nothing was recorded.
        by_hand: its parameters are updated without an optimizer.
        moved: whether a parameter has changed; asked only of a loop by hand.
        steps: steps seen.
        clipped: of them, scaled down.
        skipped: of them, left out by a guard.
        overflows: of them, left out by a ``GradScaler``.
        findings: what was found.
        part: which part of the model is trained; empty for all of it.
        number: of the model, counted from 1: optimizers of one model share it; 0 where it isn't known.
    """

    mode: str
    model: str
    run: str | None
    by_hand: bool = False
    moved: bool = True
    steps: int = 0
    clipped: int = 0
    skipped: int = 0
    overflows: int = 0
    findings: Sequence[Finding] = ()
    part: str = ""
    number: int = 0


@dataclass(slots=True)
class Result:
    """Everything seen in one process.

    Attributes:
        trainings: in the order in which they began.
        unrecorded: trainings beyond the number that gets a run file.
        fault: why nothing could be watched; None if it could.
        refused: the script was ended because the policy can't be made, which has been said.
    """

    trainings: list[Training] = field(default_factory=list)
    unrecorded: int = 0
    fault: str | None = None
    refused: bool = False
