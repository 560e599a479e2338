"""The learning rate is too high: steps that are large for the weights, and a loss that only rises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import at_rate, make
from steadygrad.detect.growth import middle
from steadygrad.detect.updates import update_ratios, whole_ratio
from steadygrad.records import Finding, Reading


class RateState(NamedTuple):
    """The beginning of a run, for as long as it decides.

    Attributes:
        seen: losses taken in.
        start: the first one, from before any step.
        norm: total norm of the first reading.
        lr: learning rate of the first reading.
        rising: step from which every loss lay above the start; None where the newest didn't.
        above: the losses since, newest last.
        largest: largest step relative to the weights that was measured.
        length: length of all weights together when they were first measured.
        newest: the newest losses.
        told: whether it has been said.
    """

    seen: int = 0
    start: float = math.nan
    norm: float = 0.0
    lr: float = 0.0
    rising: int | None = None
    above: tuple[float, ...] = ()
    largest: float = 0.0
    length: float = 0.0
    newest: tuple[float, ...] = ()
    told: bool = False


@dataclass(frozen=True, slots=True)
class LearningRateTooHigh:
    """From the first steps on the loss lies above where it began, and the steps are large or growing.

    Three signs, and each needs the loss: large steps alone can be healthy, and so can a loss that rises for
    a moment (a catapult: all of 30 recorded ones were back after 18 steps).

    * *large steps*: a step moved the weights by a tenth of their length or more, and the newest 24 losses
      all lie above the first one, by twice as much as they differ from each other or three times over.
    * *growing*: the loss is 10,000 times the first one and the gradient ten times its first norm, or more. A run
      that had been on course before is left by one huge step for other reasons (a batch, the optimizer's state,
      gradients that add up): there the rate is only blamed where it had been raised.
    * *carried away*: all weights together have become three times as long as they were, and half of the newest 32
      losses lie above the first one. No recorded healthy run doubled its weights within as many steps without
      coming down, and none was above its start with weights a quarter longer (adversarial ones and agents are
      above it, with next to the weights they began with). A number alone (a temperature that is learnt, and begins
      at 0) has no length to compare with.

    Attributes:
        young: losses after which the rate is no longer what decides; see `Divergence`.
        large: step relative to the weights. It is measured, so no scale of the loss enters.
        losses: losses in a row above the first.
        rise: rise that counts whatever the noise, for a loss above 0.
        explosion: rise of *growing*.
        course: losses after which a run that lay below its start counts as on course; no rate that was too high
            from the start let a recorded run get that far.
        carried: growth of the weights' length of *carried away*.
        settled: losses before it; the longest catapult was back after 18.
        newest: losses that are compared with the first.
    """

    young: int = 256
    large: float = 0.1
    losses: int = 24
    rise: float = 3.0
    explosion: float = 1e4
    course: int = 32
    carried: float = 3.0
    settled: int = 48
    newest: int = 32

    def start(self) -> RateState:
        """No loss yet."""
        return RateState()

    def observe(
        self, state: RateState, reading: Reading, context: Context
    ) -> tuple[RateState, Finding | None]:
        """Take in one reading with its loss."""
        # What makes a whole descent (LBFGS) too long is no rate: `OversizedUpdate` tells it.
        if state.told or state.seen > self.young or context.descends:
            return state, None
        if reading.update_norms is not None:
            state = state._replace(
                largest=max(state.largest, whole_ratio(reading, update_ratios(reading, context), 2)),
                length=state.length or (_length(reading) if _has_matrix(context) else 0.0),
            )
        loss = reading.loss
        if loss is None or not math.isfinite(loss) or reading.overflow:
            return state, None
        if not state.seen:
            return state._replace(seen=1, start=loss, norm=reading.total_norm, lr=reading.lr), None
        newest = (*state.newest[1 - self.newest :], loss)
        above = loss > state.start
        state = state._replace(
            seen=state.seen + 1,
            newest=newest,
            rising=(reading.step if state.rising is None else state.rising) if above else None,
            above=(*state.above[1 - self.losses :], loss) if above else (),
        )
        if above and (self._large(state) or self._growing(state, loss, reading)):
            return state._replace(told=True), self._report(state, loss, reading, context)
        if reading.update_norms is not None and self._carried_away(state, reading):
            return state._replace(told=True), self._far(state, reading, context)
        return state, None

    def _carried_away(self, state: RateState, reading: Reading) -> bool:
        if state.seen < self.settled or not 0.0 < state.length < math.inf:
            return False
        return _length(reading) >= self.carried * state.length and middle(state.newest) > state.start

    def _far(self, state: RateState, reading: Reading, context: Context) -> Finding:
        grown = _length(reading) / state.length
        loss = middle(state.newest)
        return make(
            "learning_rate_too_high",
            "warning",
            max(reading.step - len(state.newest) + 1, 0),
            f"The weights are {grown:.3g} times as long as at the start, and the loss, {loss:.4g} in the middle of the "
            f"last {len(state.newest)} steps, is still above the {state.start:.4g} it began with{at_rate(reading.lr)}.",
            evidence={
                "lr": reading.lr,
                "loss_at_start": state.start,
                "loss": loss,
                "weights_grown": grown,
                "largest_update_ratio": state.largest,
            },
            optimizer=context.optimizer,
            guarded=context.mode == "guard",
        )

    def _large(self, state: RateState) -> bool:
        if state.largest < self.large or len(state.above) < self.losses:
            return False
        lowest, highest = min(state.above), max(state.above)
        return lowest - state.start > 2.0 * (highest - lowest) or lowest > self.rise * state.start > 0.0

    def _growing(self, state: RateState, loss: float, reading: Reading) -> bool:
        grown = loss > self.explosion * state.start > 0.0 and reading.total_norm > 10.0 * state.norm > 0.0
        late = state.seen - len(state.above) > self.course
        return grown and (not late or reading.lr > 1.5 * state.lr)

    def _report(self, state: RateState, loss: float, reading: Reading, context: Context) -> Finding:
        rising = reading.step if state.rising is None else state.rising
        moved = (
            f", and a step moved the weights by {state.largest:.2g} of their length" if state.largest else ""
        )
        return make(
            "learning_rate_too_high",
            "warning",
            max(rising - 1, 0),
            f"The loss began at {state.start:.4g}, lies above that since step {rising} and is at {loss:.4g}"
            f"{at_rate(reading.lr)}{moved}.",
            evidence={
                "lr": reading.lr,
                "loss_at_start": state.start,
                "loss": loss,
                "largest_update_ratio": state.largest,
                "gradient_growth": reading.total_norm / state.norm if state.norm > 0.0 else math.nan,
            },
            optimizer=context.optimizer,
            guarded=context.mode == "guard",
        )


def _has_matrix(context: Context) -> bool:
    return any(len(tensor.shape) >= 2 for tensor in context.tensors)


def _length(reading: Reading) -> float:
    """Length of all weights together; 0 where it isn't measured or isn't finite."""
    lengths = reading.param_norms
    if lengths is None:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        whole = float(np.linalg.norm(lengths.astype(np.float64)))
    return whole if math.isfinite(whole) else 0.0
