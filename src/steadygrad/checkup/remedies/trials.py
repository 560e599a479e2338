"""Every remedy tried on a copy, and ranked by what happened."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from types import MappingProxyType

import torch

from steadygrad.checkup.look import Look
from steadygrad.checkup.reach import Reached, best_constant
from steadygrad.checkup.rehearsal import Rehearsal, Setup, copied, rehearse, shake
from steadygrad.checkup.remedies.data import data_plans
from steadygrad.checkup.remedies.held import Held, hold_out
from steadygrad.checkup.remedies.margin import hurry
from steadygrad.checkup.remedies.noise import add_noise
from steadygrad.checkup.remedies.plan import Case, Plan
from steadygrad.checkup.remedies.start import start_plans
from steadygrad.checkup.remedies.steps import steps_plans
from steadygrad.checkup.remedies.trial import ALIKE, AS_IT_IS, LEARNT, THROWN, Trial, Trials
from steadygrad.checkup.remedies.wiring import wiring_plans
from steadygrad.preserve import preserved
from steadygrad.records import Remedy

LITTLE_LEARNT = 0.95
"""Share of a constant guess's loss that the second trial must come below."""

SHAKEN = 8
"""Steps on each of two mixtures of the batch's rows, after the trial."""

BROKEN = 1e9
"""What a run that became non-finite while it was shaken is taken to have risen by: worse than any that did not,
and still better than one that breaks on the batch it knows."""

COMBINED = 2
"""How many of the best are tried together with others."""

FINALISTS = 5
"""How many of the best are tried once more, with noise and for longer."""

OF_ONE_ROOT = 2
"""How many of them may begin with the same remedy: what one batch can't tell apart, others may."""

LONGER = 3
"""Times the steps of that second trial."""

_NOT_COPIED = "nothing could be tried: this training can't be copied, or doesn't run on a copy"


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
        course = _Course(case, steps, guess.loss, hold_out(seen, guess))
        plans = list(_plans(case))
        tried = list(course.tried(plans))
        ordered = _ordered(tried, case)
        known: dict[Plan | None, Trial] = {}
        if ordered and ordered[0].rank == 0:
            known = course.finals(ordered)
        if not any(_learns(one) and one.bears for one in known.values()):
            tried += course.tried(_pairs(ordered, plans))
            known |= course.finals(_ordered(tried, case), known)
        if not any(_learns(one) for one in known.values()):
            known |= course.finals(_ordered(tried, case), known)
    return Trials(tuple(_ordered([known.get(one.plan, one) for one in tried], case, known)), _NOT_COPIED)


@dataclass(frozen=True, slots=True)
class _Course:
    """What every remedy has to go through.

    Attributes:
        case: the training and what is wrong with it.
        steps: of the first trial.
        guess: loss of the best constant guess; NaN without one.
        held: rows that the second trial doesn't learn from.
    """

    case: Case
    steps: int
    guess: float
    held: Held | None

    def tried(self, plans: Iterable[Plan]) -> Iterator[Trial]:
        """Each on the whole batch, as it is."""
        for plan in plans:
            trial = self._run(plan, self.steps, self.guess, [])
            if trial is not None:
                yield trial

    def finals(
        self, ordered: Sequence[Trial], known: Mapping[Plan | None, Trial] = MappingProxyType({})
    ) -> dict[Plan | None, Trial]:
        """The best that have not been tried once more yet, once more."""
        chosen = list(_chosen([one for one in ordered if one.plan not in known]))
        return {plan: trial for plan in chosen if (trial := self._again(plan)) is not None}

    def _again(self, plan: Plan) -> Trial | None:
        """For longer, with noise, without some of the rows; and for a while at a rate that is too high by a factor."""
        shares: list[float] = []
        guess = self.guess if self.held is None else self.held.guess
        hold = [] if self.held is None else [partial(self.held.listen, shares=shares)]
        changes: list[Callable[[Setup], None]] = [*hold, add_noise]
        trial = self._run(plan, LONGER * self.steps, guess, changes)
        if trial is None or not trial.finite:
            return None if trial is None else self._in_its_unit(trial)
        seen = shares[: trial.steps]
        fast = self._run(plan, self.steps, guess, [*changes, hurry])
        unseen = median(seen[-max(1, len(seen) // 4) :]) if seen else math.nan
        bears = fast is not None and _bore(fast, trial)
        return replace(self._in_its_unit(trial), unseen=unseen, bears=bears)

    def _in_its_unit(self, trial: Trial) -> Trial:
        """Losses as of the whole batch, whose rows may be harder to guess than those that were learnt from."""
        if self.held is None:
            return trial
        factor = self.guess / self.held.guess
        before, after = factor * trial.loss_before, factor * trial.loss_after
        return replace(trial, guess=self.guess, loss_before=before, loss_after=after)

    def _run(
        self, plan: Plan, steps: int, guess: float, changes: Sequence[Callable[[Setup], None]]
    ) -> Trial | None:
        seen, optimizer = self.case.seen, self.case.seen.optimizer
        assert optimizer is not None
        # A remedy that can't be done to this training (no layer to initialise, a dtype that an operation lacks) is none.
        with contextlib.suppress(Exception), preserved(seen.model, seen.loss_fn):
            torch.manual_seed(0)
            setup: Setup = copied(seen.model, optimizer, seen.batch, seen.loss_fn)
            setup.place = seen.place
            plan.apply(setup)
            for change in changes:
                change(setup)
            trial = _trial(plan, rehearse(setup, steps), guess)
            return trial if trial is None or not trial.finite else replace(trial, shaken=_shaken(setup))
        return None


def _chosen(ordered: Sequence[Trial]) -> Iterator[Plan]:
    """The best, no two that did the same to the last digit, and few that begin with the same remedy."""
    seen, roots, count = set[tuple[float, ...]](), dict[str, int](), 0
    for one in ordered:
        root = one.remedy.action.split(", and ")[0]
        mark = (one.loss_before, one.loss_after, one.steadiness, one.peak)
        if one.plan is None or not one.finite or mark in seen or roots.get(root, 0) == OF_ONE_ROOT:
            continue
        seen.add(mark)
        roots[root] = roots.get(root, 0) + 1
        yield one.plan
        count += 1
        if count == FINALISTS:
            return


def _bore(fast: Trial, own: Trial) -> bool:
    """Whether a higher rate did no harm: it stayed finite, on its course, and below a guess or where the own rate led."""
    return fast.finite and fast.peak <= THROWN and fast.share <= max(LITTLE_LEARNT, ALIKE * own.early)


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


def _guess(seen: Look) -> Reached:
    output = seen.output_tensor
    if output is None or seen.loss_fn is None or output.dim() == 0:
        return Reached(math.nan, torch.zeros(()))
    return best_constant(seen.loss_at, torch.nan_to_num(output.float()))


def _shaken(setup: Setup) -> float:
    """By how much the loss rises on a batch that contradicts what was learnt."""
    try:
        grown = shake(setup, SHAKEN)
    except Exception:  # noqa: BLE001 - rows that can't be told apart can't be mixed, and nothing is held against it
        return 1.0
    return min(max(grown), BROKEN) if grown and all(map(math.isfinite, grown)) else BROKEN


def _early(run: Rehearsal, guess: float) -> float:
    """Share that was left after the first `LONGER`-th of the steps."""
    part = run.losses[: max(1, len(run.losses) // LONGER)]
    bound = guess if guess > 0 else abs(run.losses[0])
    return median(part[-max(1, len(part) // 4) :]) / bound if bound > 0 else math.inf


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
        early=_early(run, guess),
    )
