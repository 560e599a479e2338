"""A model that gives every example one and the same answer, the best constant, and doesn't get away from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

from steadygrad.detect.finding import make
from steadygrad.detect.sameness import LEAST_TARGETS, constant_targets
from steadygrad.records import SEVERITIES, Finding, Severity

_KEPT = 64
_ENOUGH = 256  # rows that tell the entropy of their labels


def constant_prediction(
    step: int,
    loss: float,
    constant: float,
    story: str,
    *,
    severity: Severity = "warning",
    where: Sequence[str] = (),
    evidence: dict[str, float] | None = None,
    guarded: bool = False,
) -> Finding:
    """Every row gets the same answer.

    Args:
        step: since when.
        loss: where it stands.
        constant: loss of the best constant answer; NaN where it isn't known.
        story: how long, and what was seen of the outputs.
        severity: a note while it may still be a plateau.
        where: modules.
        evidence: more numbers.
        guarded: a guard is attached.
    """
    known = {} if math.isnan(constant) else {"loss of a constant": constant}
    guess = f" and the best constant answer gets {constant:.4g}" if known else ""
    return make(
        "constant_prediction",
        severity,
        step,
        f"The loss is {loss:.4g}{guess}: {story}.",
        where=where,
        evidence={"loss": loss, **known, **(evidence or {})},
        guarded=guarded,
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """What the model answered in one step.

    Attributes:
        rows: rows of the output that the loss counts.
        fits: whether the loss is a cross-entropy; then the next five hold.
        loss: its mean.
        apart: mean divergence of a row's answer from the mean of all answers, in nats: 0 where all are the same.
        first: smallest label.
        last: largest label.
        entropy: of the labels, the loss of the best constant answer.
        squares: what the loss is if it is a mean of squares.
        variance: and what that of the best constant is then.
        size: mean square of the output.
        spread: mean square of its differences between rows.
    """

    rows: float
    fits: float
    loss: float
    apart: float
    first: float
    last: float
    entropy: float
    squares: float
    variance: float
    size: float
    spread: float

    @property
    def off(self) -> float:
        """Error of the output over the output, if the loss is a mean of squares; NaN where that isn't known."""
        return math.sqrt(self.squares / self.size) if self.size > 0 and self.squares >= 0 else math.nan


class AnswerState(NamedTuple):
    """What was answered so far.

    Attributes:
        began: step of the first look at answers that were all the same, of the newest streak; -1 without one.
        losses: losses of the streak.
        apart: how far the answers were apart, as shares of the loss.
        alike: labels seen, as long as they are all one.
        label: which one; -1 before the first, NaN once there were two.
        start: first loss of a regression and the size of its output.
        told: kinds that were told, and the worst severity, as its rank.
    """

    began: int = -1
    losses: tuple[float, ...] = ()
    apart: tuple[float, ...] = ()
    alike: int = 0
    label: float = -1.0
    start: tuple[float, float] | None = None
    told: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class AnswerDetector:
    """Answers that stay the same for every row, labels that are all alike, regression targets out of scale.

    Attributes:
        same: share of the loss that the differences between answers may be worth.
        steps: that they must have lasted for a note. A deep LSTM under SGD with momentum stands for 400 steps at the
            frequencies of letters, and then learns.
        for_good: that they must have lasted for a warning.
        equal: the same as ``same`` where nothing but rounding is left of the input: no plateau, and told at once.
        looks: in which they must have been seen.
        grows: factor between the last differences and the usual ones that says that the plateau is being left.
        falls: share by which the loss may fall meanwhile.
        far: as `steadygrad.checkup.target_scale.FAR`.
        patience: steps within which a regression may come near its targets all the same.
    """

    same: float = 2e-3
    steps: int = 256
    for_good: int = 1024
    equal: float = 3e-7
    looks: int = 4
    grows: float = 2.0
    falls: float = 0.05
    far: float = 300.0
    patience: int = 16

    def start(self) -> AnswerState:
        """Nothing seen yet."""
        return AnswerState()

    def observe(
        self, state: AnswerState, step: int, answers: Answers, loss: float | None, *, guarded: bool = False
    ) -> tuple[AnswerState, tuple[Finding, ...]]:
        """Take in one look; the loss is that of the step, None where nobody has logged one."""
        squared = loss is not None and 0 < loss < math.inf and abs(answers.squares / loss - 1.0) < 0.02
        found: list[Finding | None] = []
        if answers.fits:
            state = _labels(state, answers)
            found.append(self._alike(state, step, guarded=guarded))
            constant = answers.entropy if answers.rows >= _ENOUGH else math.nan
            state = self._streak(state, step, answers.loss, answers.apart)
        elif squared and loss is not None:
            state = state._replace(start=state.start or (loss, answers.size))
            found.append(self._unscaled(state, step, loss, answers, guarded=guarded))
            constant = answers.variance
            state = self._streak(state, step, loss, answers.spread)
        else:
            return state, ()
        found.append(self._stuck(state, step, constant, guarded=guarded))
        news = tuple(one for one in found if one is not None and _rank(one) > state.told.get(one.kind, -1))
        told = MappingProxyType({**state.told, **{one.kind: _rank(one) for one in news}})
        return state._replace(told=told), news

    def _streak(self, state: AnswerState, step: int, loss: float, apart: float) -> AnswerState:
        if not apart <= self.same * loss or not loss > 0:
            return state._replace(began=-1, losses=(), apart=())
        began = step if state.began < 0 else state.began
        return state._replace(
            began=began, losses=(*state.losses, loss)[-_KEPT:], apart=(*state.apart, apart / loss)[-_KEPT:]
        )

    def _stuck(self, state: AnswerState, step: int, constant: float, *, guarded: bool) -> Finding | None:
        looks, lasted = len(state.losses), step - state.began
        if state.began < 0 or looks < self.looks or lasted < self.steps or "constant_targets" in state.told:
            return None
        half = looks // 2
        before, after = median(state.losses[:half]), median(state.losses[half:])
        grown = state.apart[-1] > self.grows * median(state.apart[half:-1] or state.apart) or (
            median(state.apart[half:]) > self.grows * max(median(state.apart[:half]), 1e-9)
        )
        if grown or after < (1.0 - self.falls) * before or after > 2.0 * before:
            return None
        lost = max(state.apart) <= self.equal
        story = f"for {lasted} steps every row has been getting the same answer ({looks} looks)"
        return constant_prediction(
            state.began,
            state.losses[-1],
            constant,
            story,
            severity="warning" if lost or lasted >= self.for_good else "info",
            evidence={"steps": lasted, "looks": looks, "apart": state.apart[-1]},
            guarded=guarded,
        )

    def _alike(self, state: AnswerState, step: int, *, guarded: bool) -> Finding | None:
        if state.alike < LEAST_TARGETS:
            return None
        return constant_targets(step, state.label, state.alike, labels=True, guarded=guarded)

    def _unscaled(
        self, state: AnswerState, step: int, loss: float, answers: Answers, *, guarded: bool
    ) -> Finding | None:
        assert state.start is not None
        first, size = state.start
        way = math.sqrt(first)
        waits = step < self.patience and loss < 2.0 * first
        if way <= self.far or size > 0.01 * first or waits or loss < 0.5 * first:
            return None
        return make(
            "unscaled_targets",
            "warning",
            step,
            f"The targets are {way:.3g} away (root mean square) from an output that starts at {math.sqrt(size):.3g}: the "
            f"first loss is {first:.3g}, and after {step} steps it is {loss:.3g}.",
            where=["targets"],
            evidence={"first loss": first, "loss": loss, "output scale": math.sqrt(answers.size)},
            guarded=guarded,
        )


def _labels(state: AnswerState, answers: Answers) -> AnswerState:
    one = answers.first == answers.last and (state.label in (-1.0, answers.first))
    if not one:
        return state._replace(alike=0, label=math.nan)
    rows = int(answers.rows) if math.isfinite(answers.rows) else 0
    return state._replace(alike=state.alike + rows, label=answers.first)


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity)
