"""The size of the steps, on the steps that measure it: too large for the weights, or none at all.

Only matrices and kernels count: vectors (biases, gains of normalisation layers) are few and often begin
at 0. So do matrices that begin at 0 (low-rank adapters, the last layer of a residual branch) or next to it
(word vectors within half of one part in their number): they have no length to compare a step with until they
have grown.

Shape legend: P gradient tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import at_rate, listed, make
from steadygrad.records import Finding, FloatArray, Reading, Remedy

# Length relative to rows of length 1, which the usual initialisations make about (0.58 to 1.4), below which a matrix
# counts as one that begins at 0. Weights of spread 0.02 are above it from 25 inputs on; word2vec's and GloVe's vectors,
# uniform within 0.5 / dimensions, are below it from 9 on, and their recipes go several lengths in the first step.
_NO_LENGTH = 0.1

_UNCHECKED = "The step goes as far as LBFGS takes the curvature to allow, and no line search checks whether the loss falls."
_SEARCH = Remedy(
    "Search along the line", 'torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")'
)


class LengthState(NamedTuple):
    """Large steps so far.

    Attributes:
        measured: how many steps were measured.
        large: how many of the newest in a row were large.
        began: step of the first of those.
        told: whether they have been told as a warning.
    """

    measured: int = 0
    large: int = 0
    began: int = 0
    told: bool = False


@dataclass(frozen=True, slots=True)
class OversizedUpdate:
    """A step moves the matrices by a large share of their own length.

    The usual share is a thousandth. Of 80 recorded healthy runs the largest first step was 0.39 (Adam with
    a rate of 0.01 in a network 512 wide), while Adam with a rate of 0.5 in a small one makes 0.8. Later in a
    run a catapult may pass through such steps and land: so there it takes ``lasting`` measured steps in a
    row for a warning, and one is an ``info``. It does so from the start in a loop by hand: those that are well known
    begin with weights of 0.01 and Adagrad's first step of 0.1, and train. So does it where a step is as long as its
    gradient (SGD): a loss that is steep at the start makes one long step, and in front of a normalisation that only
    makes the next ones shorter. A step of LBFGS is a whole descent, which
    may well make weights of another length; from ``leap`` times it, no descent comes back.

    Attributes:
        ratio: length of a step relative to the weights.
        lasting: measured steps in a row.
        young: the first measured steps, where one is enough of an optimizer whose steps the rate bounds (Adam);
            only the very first, since a line search (LBFGS) may make a long second one.
        leap: the same as ``ratio`` for a step that is a whole descent, where one is enough at any time.
        matrices: matrices with a length there must be: one alone (a linear model) has no scale of its own.
    """

    ratio: float = 0.6
    lasting: int = 3
    young: int = 1
    leap: float = 100.0
    matrices: int = 2

    def start(self) -> LengthState:
        """Nothing measured yet."""
        return LengthState()

    def observe(
        self, state: LengthState, reading: Reading, context: Context
    ) -> tuple[LengthState, Finding | None]:
        """Look at a reading that measures what its step changed."""
        if reading.update_norms is None or reading.param_norms is None:
            return state, None
        measured, large, began, told = state
        ratios = update_ratios(reading, context)
        ratio = whole_ratio(reading, ratios, self.matrices)
        measured += 1
        if not ratio >= (self.leap if context.descends else self.ratio):
            return LengthState(measured, 0, 0, told), None
        began = began if large else reading.step
        large += 1
        first = measured <= self.young and not context.by_hand and context.step_bound is not None
        warns = not told and (first or context.descends or large >= self.lasting)
        moved = LengthState(measured, large, began, told or warns)
        if not warns and large > 1:
            return moved, None
        return moved, self._report(ratios, ratio, began, reading, context, severe=warns)

    def _report(
        self,
        ratios: FloatArray,
        ratio: float,
        began: int,
        reading: Reading,
        context: Context,
        *,
        severe: bool,
    ) -> Finding:
        order = np.argsort(-ratios, kind="stable")
        names = [context.name(i) for i in order.tolist() if ratios[i] > 0.0]
        finding = make(
            "oversized_update",
            "warning" if severe else "info",
            began,
            f"One step moves the weights by {ratio:.3g} times their own length{at_rate(reading.lr)}; most in "
            f"{listed(names[:2])}.",
            where=names,
            evidence={"update_ratio": ratio, "lr": reading.lr},
            optimizer=context.optimizer,
            guarded=context.mode == "guard",
        )
        if not context.descends:
            return finding
        causes, remedies = (_UNCHECKED, *finding.causes), (_SEARCH, *finding.remedies)
        return replace(finding, causes=causes, remedies=remedies)


class StallState(NamedTuple):
    """Steps in a row that changed nothing.

    Attributes:
        began: step of the first of them.
        steps: how many were measured.
        moving: total norm at the newest step that did move the weights; 0 where none has.
    """

    began: int = 0
    steps: int = 0
    moving: float = 0.0


@dataclass(frozen=True, slots=True)
class StalledUpdate:
    """Gradients arrive, and the weights stay where they are.

    A run that has converged makes tiny steps too, but with tiny gradients: so a run that has moved once is
    stalled only while its gradient is still as large as then.

    Attributes:
        still: step relative to the weights below which nothing is stored: float32 adds no less than 6e-8
            of a number to it, and the slowest fine-tuning recorded makes steps of 1e-5.
        count: measured steps in a row.
        span: steps they must reach over, so that a schedule that begins at 0 is no stall.
        share: share of the elements that must lie in such tensors; a frozen backbone held at a rate of 0
            leaves its head.
        fallen: total norm relative to that of a moving step below which a run counts as converged.
    """

    still: float = 1e-7
    count: int = 3
    span: int = 12
    share: float = 0.95
    fallen: float = 0.03

    def start(self) -> StallState:
        """Nothing measured yet."""
        return StallState()

    def observe(
        self, state: StallState, reading: Reading, context: Context
    ) -> tuple[StallState, Finding | None]:
        """Look at a reading that measures what its step changed."""
        moved, lengths = reading.update_norms, reading.param_norms
        if moved is None or lengths is None or reading.skipped or not 0.0 < reading.total_norm < math.inf:
            return state, None
        still = self._still(reading, context)
        if still is None or context.descends:  # a descent that finds nothing more to do stays where it is
            return StallState(moving=reading.total_norm), None
        if reading.total_norm < self.fallen * state.moving:
            return state._replace(steps=0), None
        steps = state.steps + 1
        state = StallState(state.began if state.steps else reading.step, steps, state.moving)
        lasts = steps >= self.count and reading.step - state.began >= self.span
        return state, self._report(still, state, reading, context) if lasts else None

    def _still(self, reading: Reading, context: Context) -> list[int] | None:
        """Tensors that have a gradient and don't move, where they are nearly all there is."""
        moved, lengths = reading.update_norms, reading.param_norms
        if moved is None or lengths is None:
            return None
        size = min(len(context.tensors), moved.size, reading.norms.size, lengths.size)
        numel = np.array([context.tensors[i].numel for i in range(size)], np.float64)
        fed = reading.norms[:size] > 0.0
        still = fed & ~(moved[:size] > self.still * lengths[:size])
        held = float(numel[fed].sum())
        if held <= 0.0 or float(numel[still].sum()) < self.share * held:
            return None
        indices: list[int] = np.flatnonzero(still).tolist()
        return sorted(indices, key=lambda i: -numel[i])

    def _report(self, still: list[int], state: StallState, reading: Reading, context: Context) -> Finding:
        names = [context.name(i) for i in still]
        why = "" if reading.lr > 0.0 else "; the learning rate is 0"
        return make(
            "stalled_update",
            "warning",
            state.began,
            f"Gradients arrive (norm {reading.total_norm:.3g}), and {listed(names[:2])} don't move, in all "
            f"{state.steps} steps measured over {reading.step - state.began} steps{why}.",
            where=names,
            evidence={"total_norm": reading.total_norm, "lr": reading.lr, "steps": state.steps},
            optimizer=context.optimizer,
        )


class RateGone(NamedTuple):
    """The learning rate so far.

    Attributes:
        moved: whether it has been above 0.
        began: step of the first reading of the newest streak at 0.
        steps: length of that streak.
    """

    moved: bool = False
    began: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class ScheduleRunOut:
    """The learning rate has been above 0 and is 0 now, while the training goes on.

    Needs no measured step. A rate that is 0 from the start says nothing: one that is kept as a tensor on
    an accelerator isn't read, and counts as 0.

    Attributes:
        steps: readings in a row at 0; 16, because cosine schedules with restarts touch 0 for one.
    """

    steps: int = 16

    def start(self) -> RateGone:
        """Nothing seen yet."""
        return RateGone()

    def observe(self, state: RateGone, reading: Reading, context: Context) -> tuple[RateGone, Finding | None]:
        """Look at the rate of one reading."""
        if reading.lr > 0.0:
            return (state if state.moved and not state.steps else RateGone(moved=True)), None
        if not state.moved:
            return state, None
        began, steps = (state.began if state.steps else reading.step), state.steps + 1
        state = RateGone(True, began, steps)
        if steps != self.steps or not 0.0 < reading.total_norm < math.inf:
            return state, None
        return state, make(
            "stalled_update",
            "warning",
            began,
            f"The learning rate is 0 since step {began} and the training goes on: the schedule has run out, and "
            f"gradients (norm {reading.total_norm:.3g}) change nothing.",
            evidence={"lr": 0.0, "steps": steps, "total_norm": reading.total_norm},
            optimizer=context.optimizer,
        )


def update_ratios(reading: Reading, context: Context) -> FloatArray:
    """Length of the step relative to the weights for each matrix ``[P]``; 0 for whatever doesn't count."""
    moved, lengths = reading.update_norms, reading.param_norms
    if moved is None or lengths is None:
        return np.zeros(0)
    size = min(len(context.tensors), moved.size, lengths.size)
    ratios = np.zeros(size)
    matrix = np.array([len(tensor.shape) >= 2 for tensor in context.tensors[:size]], np.bool_)
    least = np.array(
        [_NO_LENGTH * math.sqrt(one.shape[0]) if one.shape else 0.0 for one in context.tensors[:size]]
    )
    counts = matrix & (lengths[:size] > least) & np.isfinite(lengths[:size]) & np.isfinite(moved[:size])
    np.divide(moved[:size], lengths[:size], out=ratios, where=counts, dtype=np.float64)
    return ratios


def whole_ratio(reading: Reading, ratios: FloatArray, matrices: int) -> float:
    """The same for all matrices together; 0 where fewer than ``matrices`` of them have a length."""
    moved, lengths = reading.update_norms, reading.param_norms
    counts = np.flatnonzero(ratios)
    if moved is None or lengths is None or counts.size < matrices:
        return 0.0
    with np.errstate(over="ignore"):
        whole = np.linalg.norm(moved[counts].astype(np.float64))
        return float(whole / np.linalg.norm(lengths[counts].astype(np.float64)))
