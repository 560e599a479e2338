"""The loss leaves its course for good."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import make
from steadygrad.detect.growth import level_and_spread
from steadygrad.records import Finding, Reading, Severity


class DivergenceState(NamedTuple):
    """Where the loss began, how low it came, where it is.

    Attributes:
        first: the first losses, until there are enough for ``start``.
        start: where it began.
        size: largest of the first losses, without its sign.
        best: lowest median of a block so far.
        noise: spread of the losses in that block.
        block: losses of the block that is being gathered.
        medians: medians of the newest blocks.
        calm: step of the last reading below the bar.
        blocks_above: blocks since the median was last on course.
        far: losses in a row far beyond everything.
    """

    first: tuple[float, ...] = ()
    start: float = math.nan
    size: float = 0.0
    best: float = math.inf
    noise: float = 0.0
    block: tuple[float, ...] = ()
    medians: tuple[float, ...] = ()
    calm: int = 0
    blocks_above: int = 0
    far: int = 0


@dataclass(frozen=True, slots=True)
class Divergence:
    """The loss is far above where it began and doesn't come back.

    The unit is what the run has gained so far (start minus best), half of the largest of the first losses, or six
    times its noise, whichever is largest.

    * *lasting*: the medians of the newest three blocks of 16 lie ``units`` above the start and don't fall.
      A catapult (Lewkowycz et al. 2020) rises as far and falls again within that time. A rise over more
      than 256 steps must be a hundred times as large: the loss of a growing value function (temporal
      differences) rises slowly, and nothing is wrong.
    * *far*: four losses in a row lie ``far`` units above the start.

    Attributes:
        early: losses that make the start; their smallest, because the second step may have diverged.
        block: losses of a block.
        units: units of *lasting*; healthy runs recorded stay below 2 for that long.
        slow_units: the same for a slow rise.
        far: units of *far*; the highest of 30 recorded catapults (two-layer networks, 2 to
            3.9 over the sharpness) reached 5,500, and all were back within 18 steps.
        slow: blocks after which a rise is slow.
    """

    early: int = 3
    block: int = 16
    units: float = 10.0
    slow_units: float = 1000.0
    far: float = 1e4
    slow: int = 16

    def start(self) -> DivergenceState:
        """No loss yet."""
        return DivergenceState()

    def observe(
        self, state: DivergenceState, reading: Reading, context: Context
    ) -> tuple[DivergenceState, Finding | None]:
        """Take in one loss; non-finite ones don't count."""
        loss = reading.loss
        if loss is None or not math.isfinite(loss) or reading.overflow:
            return state, None
        first, start, size = state.first, state.start, state.size
        if len(first) < self.early:
            first = (*first, loss)
            start, size = min(first), max(size, abs(loss))
        block = (*state.block, loss)
        far = state.far + 1 if loss > start + self.far * self._unit(state, start, size) else 0
        state = DivergenceState(
            first,
            start,
            size,
            state.best,
            state.noise,
            block,
            state.medians,
            reading.step if far == 0 and state.blocks_above == 0 else state.calm,
            state.blocks_above,
            far,
        )
        if far == 4:
            return state, self._report(state, loss, reading, context, "error")
        if len(block) < self.block:
            return state, None
        return self._close_block(state, reading, context)

    def _close_block(
        self, state: DivergenceState, reading: Reading, context: Context
    ) -> tuple[DivergenceState, Finding | None]:
        median, spread = level_and_spread(state.block)
        unit = self._unit(state, state.start, state.size)
        above = state.blocks_above + 1 if median > state.start + unit else 0
        medians = (*state.medians[-2:], median)
        if median < state.best:
            state = state._replace(best=median, noise=spread)
        state = state._replace(block=(), medians=medians, blocks_above=above)
        bar = state.start + (self.units if above <= self.slow else self.slow_units) * unit
        falls = any(later < 0.9 * earlier for earlier, later in pairwise(medians))
        if above < 3 or min(medians) <= bar or falls:
            return state, None
        times = (median - state.start) / unit
        return state, self._report(
            state, median, reading, context, "error" if times >= self.slow_units else "warning"
        )

    def _unit(self, state: DivergenceState, start: float, size: float) -> float:
        gained = start - state.best if state.best < start else 0.0
        return max(gained, size / 2, 6.0 * state.noise, 1e-30)

    def _report(
        self, state: DivergenceState, loss: float, reading: Reading, context: Context, severity: Severity
    ) -> Finding:
        best = min(state.best, state.start)
        return make(
            "divergence",
            severity,
            min(state.calm + 1, reading.step),
            f"The loss began at {state.start:.4g}, came down to {best:.4g} and is at {loss:.4g} at step "
            f"{reading.step}: it doesn't come back.",
            evidence={
                "loss": loss,
                "loss_at_start": state.start,
                "best_loss": best,
                "total_norm": reading.total_norm,
            },
            optimizer=context.optimizer,
            guarded=context.mode == "guard",
        )
