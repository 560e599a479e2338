"""Every remedy tried on a copy, and ranked by what happened."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from types import MappingProxyType

import torch

from steadygrad.checkup.look import Look
from steadygrad.checkup.reach import best_constant
from steadygrad.checkup.rehearsal import Rehearsal, Setup, copied, rehearse, shake
from steadygrad.checkup.remedies.data import data_plans
from steadygrad.checkup.remedies.noise import add_noise
from steadygrad.checkup.remedies.plan import Case, Plan
from steadygrad.checkup.remedies.start import start_plans
from steadygrad.checkup.remedies.steps import steps_plans
from steadygrad.checkup.remedies.wiring import wiring_plans
from steadygrad.preserve import preserved
from steadygrad.records import Remedy

LEARNT = 0.05
"""Share of a constant guess's loss below which two remedies have both learnt the batch: which one learnt it to more
digits says nothing about the next batch."""

ALIKE = 1.5
"""Factor of loss within which two remedies are alike, and the one nearer to the root comes first."""

LITTLE = 0.6
"""Share of a constant guess's loss above which not much has been learnt, and four times as small a difference counts:
one batch, seen again and again, has little noise."""

LITTLE_LEARNT = 0.95
"""Share of a constant guess's loss that the second trial must come below."""

UNSTEADY = 3.0
"""Highest loss of the second half over the last: above it a run has learnt the batch by luck."""

THROWN = 10.0
"""Highest loss of all over the first one or a constant guess's: above it the run was thrown far off on its way, and on
batches that change it wouldn't have come back. Catapults stay within it."""

SHAKEN = 8
"""Steps on each of two mixtures of the batch's rows, after the trial."""

BROKEN = 1e9
"""What a run that became non-finite while it was shaken is taken to have risen by: worse than any that did not,
and still better than one that breaks on the batch it knows."""

COMBINED = 2
"""How many of the best are tried together with others."""

FINALISTS = 4
"""How many of the best are tried once more, with noise and for longer."""

LONGER = 3
"""Times the steps of that second trial."""

SHOWN = 8
"""Rows of the table; the run as it is always has its own."""

AS_IT_IS = "Leave it as it is"

_NOT_COPIED = "nothing could be tried: this training can't be copied, or doesn't run on a copy"


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
        luck = (self.steadiness / UNSTEADY, self.peak / THROWN, self.shaken / UNSTEADY)
        return round(steps * finer) / finer + sum(_alike(max(1.0, one)) for one in luck)


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
                f"; the best once more, for {longest} steps whose gradients are as noisy as batches that change"
            )
        shown = [trial for i, trial in enumerate(self.trials) if i < SHOWN or trial.remedy.action == AS_IT_IS]
        for trial in shown:
            after = f"{trial.loss_after:.3g}" if trial.finite else "broke"
            share = f"{trial.share:.0%}" if trial.share < 1e3 else "-" if trial.finite else ""
            lines.append(f"  {trial.loss_before:>9.3g} -> {after:<9} {share:>6}  {trial.remedy}")
        if len(shown) < len(self.trials):
            lines.append(f"  and {len(self.trials) - len(shown)} more that did no better")
        return "\n".join(lines)


def try_all(seen: Look, kinds: Iterable[str], steps: int) -> Trials:
    """Try every remedy that needs no other architecture, and the best together with others.

    Args:
        seen: what one step of the training showed; it has an optimizer.
        kinds: kinds of the checkup's findings.
        steps: training steps for each.
    """
    case = Case(seen, frozenset(kinds))
    with preserved(seen.model, seen.loss_fn), torch.random.fork_rng(devices=[]):
        guess = _guess(seen)
        plans = list(_plans(case))
        tried = [trial for plan in plans if (trial := _tried(plan, seen, steps, guess)) is not None]
        pairs = list(_pairs(_ordered(tried, case), plans))
        tried += [trial for plan in pairs if (trial := _tried(plan, seen, steps, guess)) is not None]
        final = list(_final(_ordered(tried, case), seen, steps, guess))
    known = {trial.plan: trial for trial in final}
    return Trials(tuple(_ordered([known.get(one.plan, one) for one in tried], case, known)), _NOT_COPIED)


def _final(ordered: Sequence[Trial], seen: Look, steps: int, guess: float) -> Iterator[Trial]:
    """The best once more, and those behind them where none of them trains."""
    for first in (0, FINALISTS):
        again = [
            trial
            for one in ordered[first : first + FINALISTS]
            if one.finite
            and one.plan is not None
            and (trial := _tried(one.plan, seen, LONGER * steps, guess, noisy=True)) is not None
        ]
        yield from again
        if any(_learns(trial) for trial in again):
            return


def _learns(trial: Trial) -> bool:
    return trial.trains and trial.share < LITTLE_LEARNT


def _plans(case: Case) -> Iterator[Plan]:
    """From what is nearest to the root of a fault to what only bounds its effect: the order breaks ties."""
    yield Plan(Remedy(AS_IT_IS), "none", lambda _: None)
    yield from wiring_plans(case)
    yield from data_plans(case)
    yield from start_plans(case)
    yield from steps_plans(case)


def _pairs(tried: Sequence[Trial], plans: Sequence[Plan]) -> Iterator[Plan]:
    if tried and tried[0].rank == 0:
        return
    roots = [one.plan for one in tried if one.plan is not None and one.plan.group not in {"none", "steps"}]
    for root in roots[:COMBINED]:
        for other in plans:
            if other.group not in {"none", root.group} and not (
                other.group == "wiring" and root.group != "wiring"
            ):
                yield root.then(other)


def _ordered(
    trials: Sequence[Trial], case: Case, known: Mapping[Plan | None, Trial] = MappingProxyType({})
) -> list[Trial]:
    """By what happened; where something is wrong, whatever changes it comes before leaving it, if it's no worse.

    Args:
        trials: in the order that breaks ties.
        case: what is wrong.
        known: those that were tried once more; where they still learn they come first.
    """

    def place(trial: Trial) -> tuple[bool, float, bool]:
        proved = trial.plan in known and _learns(trial)
        return not proved, trial.rank, bool(case.kinds) and trial.remedy.action == AS_IT_IS

    return sorted(trials, key=place)


def _guess(seen: Look) -> float:
    output = seen.output_tensor
    if output is None or seen.loss_fn is None or output.dim() == 0:
        return math.nan
    return best_constant(seen.loss_at, torch.nan_to_num(output.float())).loss


def _tried(plan: Plan, seen: Look, steps: int, guess: float, *, noisy: bool = False) -> Trial | None:
    optimizer = seen.optimizer
    assert optimizer is not None
    # A remedy that can't be done to this training (no layer to initialise, a dtype that an operation lacks) is none.
    with contextlib.suppress(Exception), preserved(seen.model, seen.loss_fn):
        torch.manual_seed(0)
        setup: Setup = copied(seen.model, optimizer, seen.batch, seen.loss_fn)
        setup.place = seen.place
        plan.apply(setup)
        if noisy:
            add_noise(setup)
        trial = _trial(plan, rehearse(setup, steps), guess)
        return trial if trial is None or not trial.finite else replace(trial, shaken=_shaken(setup))
    return None


def _shaken(setup: Setup) -> float:
    """By how much the loss rises on a batch that contradicts what was learnt."""
    try:
        grown = shake(setup, SHAKEN)
    except Exception:  # noqa: BLE001 - rows that can't be told apart can't be mixed, and nothing is held against it
        return 1.0
    return min(max(grown), BROKEN) if grown and all(map(math.isfinite, grown)) else BROKEN


def _trial(plan: Plan, run: Rehearsal, guess: float) -> Trial | None:
    if not run.losses:
        return None
    quarter, half = max(1, len(run.losses) // 4), max(1, len(run.losses) // 2)
    made = len(run.losses) - 1
    trial = Trial(plan.remedy, run.losses[0], math.nan, run.finite, guess, steps=made, plan=plan)
    if not run.finite:
        return trial
    after = median(run.losses[-quarter:])
    first = max(run.losses[0], guess if guess > 0 else 0.0)
    least = max(
        after, LEARNT * first
    )  # below it there is nothing more to learn, and noise around it is no luck
    return replace(
        trial,
        loss_after=after,
        steadiness=max(run.losses[-half:]) / least if least > 0 else 1.0,
        peak=max(run.losses) / first if first > 0 else 1.0,
    )
