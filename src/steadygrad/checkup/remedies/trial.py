"""What one remedy did, and the table of all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from steadygrad.checkup.remedies.margin import MARGIN
from steadygrad.checkup.remedies.plan import Plan
from steadygrad.records import Remedy

LEARNT = 0.05
"""Share of a constant guess's loss below which two remedies have both learnt the batch: which one learnt it to more
digits says nothing about the next batch."""

ALIKE = 1.5
"""Factor of loss within which two remedies are alike, and the one nearer to the root comes first."""

LITTLE = 0.6
"""Share of a constant guess's loss above which not much has been learnt, and four times as small a difference counts:
one batch, seen again and again, has little noise."""

UNSTEADY = 3.0
"""Highest loss of the second half over the last: above it a run has learnt the batch by luck."""

THROWN = 10.0
"""Highest loss of all over the first one or a constant guess's: above it the run was thrown far off on its way, and on
batches that change it wouldn't have come back. Catapults stay within it."""

NARROW = 3
"""Steps of `ALIKE` by which a remedy that breaks at a few times its rate must be better than one that doesn't."""

SHOWN = 8
"""Rows of the table; the run as it is always has its own."""

AS_IT_IS = "Leave it as it is"


@dataclass(frozen=True, slots=True)
class Trial:
    """One remedy and what it did.

    Attributes:
        remedy: what was changed.
        loss_before: of the first step.
        loss_after: median of the last quarter of the steps; NaN where the run broke.
        finite: whether every loss was finite.
        guess: loss of the best constant guess, or the first loss where there is none.
        steadiness: highest loss of the second half over the last quarter's.
        peak: highest loss of all over the first one or the constant guess's, whichever is larger.
        early: share of it that was left after a third of the steps.
        unseen: share of a constant guess's loss on rows that weren't learnt from; NaN where there were none.
        bears: whether it bore a few times its rate, or nobody tried.
        shaken: by how much the loss rose on rows with each other's targets, while it was trained on them; 1 is not.
        steps: how many training steps were made.
        plan: how it was done.
    """

    remedy: Remedy
    loss_before: float
    loss_after: float
    finite: bool
    guess: float = math.nan
    steadiness: float = 1.0
    peak: float = 1.0
    shaken: float = 1.0
    early: float = math.inf
    unseen: float = math.nan
    bears: bool = True
    steps: int = 0
    plan: Plan | None = field(default=None, repr=False, compare=False)

    @property
    def share(self) -> float:
        """Share of a constant guess's loss that is left; Inf where the run broke."""
        if not self.finite:
            return math.inf
        bound = self.guess if self.guess > 0 else abs(self.loss_before)
        return self.loss_after / bound if bound > 0 else self.loss_after

    @property
    def trains(self) -> bool:
        """Whether the loss fell and stayed finite."""
        return self.finite and self.loss_after < self.loss_before

    @property
    def rank(self) -> float:
        """Lower is better; equal is alike."""
        if not self.finite:
            return math.inf
        finer = 4 if self.share > LITTLE else 1
        steps = _alike(max(self.share, LEARNT) / LEARNT)
        unseen = 0.0 if math.isnan(self.unseen) else _alike(min(max(self.unseen, LEARNT), 1.0) / LEARNT)
        margin = 0.0 if self.bears else NARROW
        luck = (self.steadiness / UNSTEADY, self.peak / THROWN, self.shaken / UNSTEADY)
        return (
            round(steps * finer) / finer + round(unseen + margin) + sum(_alike(max(1.0, one)) for one in luck)
        )


def _alike(factor: float) -> float:
    """A factor as a number of steps of `ALIKE`."""
    return math.log(min(factor, 1e300)) / math.log(ALIKE)


@dataclass(frozen=True, slots=True)
class Trials:
    """All trials, the best first; the run as it is stands among them.

    Attributes:
        trials: each with its remedy.
        why_none: what to say where there are none.
    """

    trials: tuple[Trial, ...]
    why_none: str = "no optimizer was given, so nothing could be tried"

    def __iter__(self) -> Iterator[Trial]:
        """The trials, the best first."""
        return iter(self.trials)

    def __len__(self) -> int:
        """How many."""
        return len(self.trials)

    def __str__(self) -> str:
        """A table: loss before and after, what is left of a constant guess's, the remedy."""
        if not self.trials:
            return self.why_none
        lines = [
            "remedies tried on copies, best first (loss before -> after, share of a constant guess's loss)"
        ]
        longest, shortest = (choose(trial.steps for trial in self.trials) for choose in (max, min))
        if longest > shortest > 0:
            lines[0] += (
                f"; the best once more, for {longest} steps as noisy as batches that change, a quarter of the rows left out"
            )
        shown = [trial for i, trial in enumerate(self.trials) if i < SHOWN or trial.remedy.action == AS_IT_IS]
        for trial in shown:
            after = f"{trial.loss_after:.3g}" if trial.finite else "broke"
            share = f"{trial.share:.0%}" if trial.share < 1e3 else "-" if trial.finite else ""
            edge = "" if trial.bears else f" (breaks at {MARGIN:.0f} times its rate)"
            lines.append(f"  {trial.loss_before:>9.3g} -> {after:<9} {share:>6}  {trial.remedy}{edge}")
        if len(shown) < len(self.trials):
            lines.append(f"  and {len(self.trials) - len(shown)} more that did no better")
        return "\n".join(lines)
