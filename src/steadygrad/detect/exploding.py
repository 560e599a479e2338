"""The gradient grows far above its usual size.

All evidence is relative to the run itself, in logs: noise of gradient norms is multiplicative, and a
sum-reduced loss is as healthy as a mean-reduced one. The constants were chosen on recorded runs of two
seeds each: 30 stable trainings (MLP, CNN, ResNet, LSTM, GRU, transformers with and without warm-up,
zero-initialised branches, runs to convergence) and 25 faulty ones, 12 of which blow up.

Shape legend: P gradient tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import listed, make
from steadygrad.detect.growth import (
    growth_per_step,
    leaders,
    level_and_spread,
    log_total_norm,
    middle,
    ratio,
)
from steadygrad.records import Finding, FloatArray, Reading, Severity

_RISE = math.log(1.5)
_BEYOND = math.log(3.0)
"""How far above the start a slow rise must end: a run that has converged and loses some of it again rises
as long (Adam with a rate of 0.01 in a network 512 wide came to 1.3 times its start)."""


class GrowthState(NamedTuple):
    """What the run looked like so far; norms are logs of total norms.

    Attributes:
        window: the newest readings, oldest first.
        seen: readings taken in.
        alarm: above this a reading is looked at closely.
        since: step at which the readings rose above ``alarm``; None below it.
        rises: readings in a row that grew by half or more.
        start: usual norm of the first readings; minus infinity until there are enough.
        blocks: usual norm of each of the newest blocks of readings.
        history: norms of some of the newest calm readings, each ``[P]``.
    """

    window: tuple[float, ...] = ()
    seen: int = 0
    alarm: float = math.inf
    since: int | None = None
    rises: int = 0
    start: float = -math.inf
    blocks: tuple[float, ...] = ()
    history: tuple[FloatArray, ...] = ()


class Growth(NamedTuple):
    """A rise that is to be reported.

    Attributes:
        severity: how bad it is.
        step: where it began.
        factor: how many times the usual norm.
        story: the part of the summary that tells how it grew.
    """

    severity: Severity
    step: int
    factor: float
    story: str


@dataclass(frozen=True, slots=True)
class ExplodingGradient:
    """The gradient norm leaves its usual range, or grows without end.

    Three signs, each of which must end above the norm the run began with (a run that has converged
    may jump a thousandfold and do no harm):

    * *lifted*: the last 1, 2 or 4 readings all lie 1e6, 1e3 or 30 times above the median before, and
      6 standard deviations above it. The larger the rise, the sooner it is believed. Healthy runs
      stay below a factor 6 over four readings. In the first readings there is no usual norm yet: there
      a jump of 1e3 above everything seen is enough, because a bad initialisation leaves no second
      chance (it was NaN one or two steps later in all recorded runs).
    * *running*: six rises in a row or more, each by half or more, together 1000-fold.
    * *creeping*: the median of blocks of 32 readings rises three times in a row by half or more and
      ends 30 times above the lowest of the last 16 blocks. A rise of 5 % a step drags the median and
      the spread along and passes the first test.

    A single reading 30 times above the median is an ``info``: alone, it is an outlier in the data.

    Attributes:
        ladder: (readings, factor) of *lifted*, most readings last.
        first_jump: factor of *lifted* for one reading among the first 16.
        sigmas: standard deviations, for runs that are noisier than the factors allow for.
        window: readings that make the usual norm; 64, so that a lasting shift is usual after 32.
        runs: rises in a row of *running*; by chance one in 7! = 5040 readings, before their size counts.
        severe: factor from which a rise is an error: no recorded run came back from there.
        early: readings before there is a usual norm; also those that make the norm at the start.
        block: readings of a block of *creeping*; the noise of their median is a fifth of a reading's.
    """

    ladder: tuple[tuple[int, float], ...] = ((1, 1e6), (2, 1e3), (4, 30.0))
    first_jump: float = 1e3
    sigmas: float = 6.0
    window: int = 64
    runs: int = 6
    severe: float = 1e3
    early: int = 16
    block: int = 32

    def start(self) -> GrowthState:
        """Nothing seen yet."""
        return GrowthState()

    def observe(
        self, state: GrowthState, reading: Reading, context: Context
    ) -> tuple[GrowthState, Finding | None]:
        """Take in one reading; non-finite, zero and overflow readings don't count."""
        u = None if reading.overflow else log_total_norm(reading)
        if u is None:
            return state, None
        moved = self._advance(state, u, reading)
        if moved.since is not None:
            growth = self._lifted(moved, u)
        elif moved.blocks is not state.blocks:
            growth = self._creeping(moved, reading.step)
        else:
            growth = None
        if moved.rises >= self.runs:
            growth = self._running(moved, reading.step) or growth
        return self._refreshed(moved, u), growth and self._report(growth, moved, reading, context)

    def _advance(self, state: GrowthState, u: float, reading: Reading) -> GrowthState:
        window, seen, alarm, since, rises, start, blocks, history = state
        rises = rises + 1 if window and u - window[-1] >= _RISE else 0
        window = (*window[1 - self.window :], u)
        seen += 1
        if u > alarm:
            since = reading.step if since is None else since
        else:
            since = None
            if seen % 8 == 1:
                history = (*history[-7:], reading.norms)
        if seen == self.early:
            start = middle(window)
        if not seen % self.block:
            blocks = (*blocks[-15:], middle(window[-self.block :]))
        return GrowthState(window, seen, alarm, since, rises, start, blocks, history)

    def _refreshed(self, state: GrowthState, u: float) -> GrowthState:
        """The alarm follows the usual norm: every reading at first, every eighth later."""
        if state.seen >= self.early:
            if state.seen % 8:
                return state
            alarm = self._bar(state.window, self.ladder[-1][1])
        elif u <= state.alarm:
            alarm = max(state.window) + math.log(self.ladder[-1][1])
        else:
            return state
        return state._replace(alarm=alarm)

    def _bar(self, log_norms: tuple[float, ...], factor: float) -> float:
        level, spread = level_and_spread(log_norms)
        return level + max(math.log(factor), self.sigmas * spread)

    def _lifted(self, state: GrowthState, u: float) -> Growth | None:
        began = state.since or 0
        if u <= state.start:
            return None
        early = state.seen <= self.early
        ladder = ((1, self.first_jump), *self.ladder[1:]) if early else self.ladder
        for count, factor in ladder:
            before, newest = state.window[:-count], state.window[-count:]
            if not before:
                continue
            level = max(before) if early else middle(before)
            bar = level + math.log(factor) if early else self._bar(before, factor)
            if min(newest) > max(bar, state.start):
                times = ratio(u - level)
                severity: Severity = "error" if times >= self.severe else "warning"
                return Growth(severity, began, times, f"is {times:.2g} times its usual size")
        if early:
            return None
        times = ratio(u - middle(state.window[:-1]))
        return Growth("info", began, times, f"jumped to {times:.2g} times its usual size")

    def _running(self, state: GrowthState, step: int) -> Growth | None:
        newest = state.window[-state.rises - 1 :]
        steps = len(newest) - 1
        times = ratio(newest[-1] - newest[0])
        if times < self.severe or newest[-1] <= state.start:
            return None
        return Growth("error", max(step - steps, 0), times, f"grew {times:.2g}-fold in {steps} steps")

    def _creeping(self, state: GrowthState, step: int) -> Growth | None:
        blocks = state.blocks
        lowest = min(blocks)
        times = ratio(blocks[-1] - lowest)
        rising = len(blocks) > 3 and all(after - before >= _RISE for before, after in pairwise(blocks[-4:]))
        if not rising or times < self.ladder[-1][1] or blocks[-1] <= state.start + _BEYOND:
            return None
        steps = (len(blocks) - 1 - blocks.index(lowest)) * self.block
        story = f"has grown {times:.2g}-fold over {steps} steps and keeps rising"
        return Growth("warning", max(step - steps, 0), times, story)

    def _report(self, growth: Growth, state: GrowthState, reading: Reading, context: Context) -> Finding:
        leading, share = leaders(reading.norms, state.history)
        names = [context.name(i) for i in leading]
        held = float(np.sum(share[leading[:3]]))
        total = ratio(state.window[-1])
        led = f"; led by {listed(names)}" if names else ""
        return make(
            "exploding_gradient",
            growth.severity,
            growth.step,
            f"The gradient norm {growth.story} (norm {total:.2g} at step {reading.step}){led}.",
            where=names,
            evidence={
                "total_norm": total,
                "factor": growth.factor,
                "growth_per_step": growth_per_step(state.window[-8:]),
                "leader_share": held,
            },
            optimizer=context.optimizer,
            guarded=context.mode == "guard",
        )
