"""The loss jumps far above its recent course."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import make
from steadygrad.detect.growth import level_and_spread
from steadygrad.records import Finding, Reading

_EVERY = 8
"""Readings between two looks at the usual loss: sorting a window at every step would cost the most here."""


_RAISED = 1.5
"""Factor from which a learning rate counts as raised: schedules move by less within a window, warm-ups apart."""


class SpikeState(NamedTuple):
    """The recent course of the loss.

    Attributes:
        window: the newest losses, oldest first.
        seen: losses taken in.
        start: usual loss of the first of them; minus infinity until there are enough.
        usual: median of the window when it was last looked at.
        alarm: above this a loss stands out.
        lrs: learning rates when it was looked at, over the length of the window.
        top: highest of those before.
        began: step at which the losses rose above the alarm.
        above: losses in a row above it.
    """

    window: tuple[float, ...] = ()
    seen: int = 0
    start: float = -math.inf
    usual: float = 0.0
    alarm: float = math.inf
    lrs: tuple[float, ...] = ()
    top: float = 0.0
    began: int = 0
    above: int = 0


@dataclass(frozen=True, slots=True)
class LossSpike:
    """The loss stands out from the newest 64, by far more than they do from each other.

    The bar is the median plus 10 standard deviations (from the median absolute deviation), and no lower
    than three times the distance of the largest from the median: losses of one or two examples, of heavy
    tailed targets or of a policy gradient are mostly small and sometimes large, and none of that is a
    spike. Nothing here depends on the sign or the scale of the loss.

    One loss above the bar is an ``info``: a batch unlike the others. ``lasting`` in a row, above the loss
    at which the run began, are a warning, unless the loss is on its way back (another task, or other data:
    it is learnt like the first) or the learning rate has just been raised (a restart). Where it has been raised
    beyond everything that came before, it is to blame, and the finding is ``learning_rate_too_high``.

    Attributes:
        window: losses that make the usual one; 64, so that a lasting shift is usual after as many.
        early: losses before there is a usual one.
        sigmas: standard deviations; 10, as in the notes on recovering loss spikes (PaLM skips by hand at
            less, and none of 100 recorded healthy runs reaches it for three losses in a row).
        tail: times the distance of the largest from the median.
        lasting: losses in a row for a warning; catapults and single bad batches are back before.
    """

    window: int = 64
    early: int = 32
    sigmas: float = 10.0
    tail: float = 3.0
    lasting: int = 8

    def start(self) -> SpikeState:
        """No loss yet."""
        return SpikeState()

    def observe(
        self, state: SpikeState, reading: Reading, context: Context
    ) -> tuple[SpikeState, Finding | None]:
        """Take in one loss; non-finite ones don't count."""
        loss = reading.loss
        if loss is None or not math.isfinite(loss) or reading.overflow:
            return state, None
        window, seen, start, usual, alarm, lrs, top, began, above = state
        window = (*window[1 - self.window :], loss)
        seen += 1
        if loss <= alarm:
            if not seen % _EVERY:
                top, lrs = max(top, *lrs[:-7], 0.0), (*lrs[-7:], reading.lr)
            if not seen % _EVERY and seen >= self.early:
                usual, spread = level_and_spread(window)
                alarm = usual + max(self.sigmas * spread, self.tail * (max(window) - usual))
                start = usual if start == -math.inf else start
            return SpikeState(window, seen, start, usual, alarm, lrs, top), None
        began = began if above else reading.step
        above += 1
        moved = SpikeState(window, seen, start, usual, alarm, lrs, top, began, above)
        if above == self.window:  # the new usual
            moved = SpikeState(window, seen, start, usual, math.inf, (reading.lr,), max(top, *lrs))
        return moved, self._judge(moved, reading, context) if above in {1, self.lasting} else None

    def _judge(self, state: SpikeState, reading: Reading, context: Context) -> Finding:
        newest = state.window[-state.above :]
        peak = max(newest)
        raised = reading.lr > _RAISED * min(state.lrs)
        highest = reading.lr > _RAISED * max(state.top, state.lrs[0])
        falls = newest[-1] - state.usual < 0.7 * (peak - state.usual)
        lasts = state.above >= self.lasting and min(newest) > state.start and not falls
        lasts = lasts and (highest or not raised)
        how_long = f"for {state.above} steps" if state.above > 1 else "in one step"
        why = ", after the learning rate was raised" if raised else ""
        return make(
            "learning_rate_too_high" if lasts and highest else "loss_spike",
            "warning" if lasts else "info",
            state.began,
            f"The loss went from {state.usual:.4g} to {peak:.4g} {how_long}{why}: above {state.alarm:.4g}, where "
            "its own noise ends.",
            evidence={
                "loss": peak,
                "usual_loss": state.usual,
                "bar": state.alarm,
                "steps": state.above,
                "total_norm": reading.total_norm,
                "lr": reading.lr,
            },
            optimizer=context.optimizer,
            guarded=context.mode == "guard",
        )
