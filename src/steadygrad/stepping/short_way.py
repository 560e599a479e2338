"""The short way of a step to which nothing is done: its gradients are measured, found to be quiet, and it passes.

Nearly every step of a healthy run takes it. All that such a step has to tell may wait for a few others (`Later`), so
the way is open for as many at a time, and nobody takes it where anything calls for more: a rate that isn't known to be
harmless, a loss out of the ordinary, parameters that have joined, a scaler at work.

Shape legend: P parameters the table holds, p those of the optimizer's that have a gradient.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from steadygrad.measure import GroupHyper, HostMeasurement, HostNorms
from steadygrad.policies.base import PUT_OFF
from steadygrad.policies.relative import facts_of
from steadygrad.records import BoolArray, FloatArray, Reading
from steadygrad.stepping.bounded import BoundedPolicy
from steadygrad.stepping.judge import Treatment, Verdict
from steadygrad.stepping.lane import Lane
from steadygrad.stepping.outlet import Outlet
from steadygrad.stepping.under_way import StepUnderWay

if TYPE_CHECKING:
    from steadygrad.stepping.track import Track

Groups = Sequence[Mapping[str, Any]]
_NOTHING: FloatArray = np.zeros(0, np.float32)


class ShortWay:
    """Lets the plain steps of one optimizer pass.

    Args:
        track: the optimizer's, as the outlet knows it.
        lane: measures the steps that take the long way.
        bounded: the lane's policy, as it sees the norms of a loop that clips by itself; None only watches.
        outlet: where steps are told.

    Attributes:
        until: step before which the way is open; 0 while it is closed.
        reading: of the step that is on it, None without one.
    """

    def __init__(self, track: Track, lane: Lane, bounded: BoundedPolicy | None, outlet: Outlet) -> None:
        self.until = 0.0
        self.reading: Reading | None = None
        self._track, self._table, self._lane, self._outlet = track, lane.table, lane, outlet
        self._bounded = bounded
        self._quiet = self._lr = 0.0
        self._rates: Sequence[GroupHyper] = ()
        self._lacks: list[bool] = []
        self._rows: list[int] | None = None
        self._absent: BoolArray | None = None
        self._norms: HostNorms | None = None
        self._cap: float | None = None

    def open(self) -> None:
        """Open it, where the coming steps may be plain.

        A step has just ended, and its gradients are still there; nothing waits to be told, and the policy has learnt of all.
        """
        optimizer = self._track.optimizer
        lane = self._lane
        self.close()
        until = min(lane.free_until(), lane.step + PUT_OFF)
        if optimizer is None or until <= lane.step:
            return
        until = min(until, self._outlet.free_until(self._track))
        if until <= lane.step or not self._lay_out(optimizer.param_groups):
            return
        lane.unlearnt.settle()
        self._take_rates(self._table.hyper(optimizer.param_groups))
        self._cap = None if lane.policy is None else lane.policy.cap
        if self._quiet > 0.0:
            self.until = until

    def close(self) -> None:
        """Let nobody pass, nor whoever is on it."""
        self.until, self.reading = 0.0, None

    @property
    def total_norm(self) -> Tensor:
        """Of the step on it, 0-d."""
        return torch.from_numpy(np.asarray(math.nan if self.reading is None else self.reading.total_norm))

    def forget(self) -> None:
        """Other parameters are held now."""
        self._norms = None

    def enters(self, treatment: Treatment, bound: float = math.inf) -> bool:
        """Whether the step whose gradients are ready now takes it: then it is measured, and nothing else is to be done.

        Args:
            treatment: carries a verdict out, should the step turn out to be no plain one (`give_back`).
            bound: total norm that the loop is about to clip to by itself; infinite where it isn't.
        """
        lane, optimizer = self._lane, self._track.optimizer
        self.reading = None
        if optimizer is None or not self._outlet.at_ease or lane.stop is not None:
            return False
        # A ``GradScaler`` has left its work to the optimizer's kernel.
        if treatment.under_scaler or treatment.loss_scale is not None:
            return False
        if self._bounded is not None and self._bounded.bound != bound:
            return False
        # A step that raised was none, but a turn: the weights are due sooner than it looked.
        if lane.measurer.param_norms_due <= 0:
            return False
        groups = optimizer.param_groups
        grads = self._gradients(groups)
        if not grads:
            return False
        rates = self._table.hyper(groups)
        if rates is not self._rates:
            self._take_rates(rates)
        if self._norms is None:
            self._norms = HostNorms(grads)
        norms, total = self._norms(grads)
        # Not the other way round: a NaN is not quiet.
        if not total <= self._quiet:
            return False
        self._outlet.passes(self._track)
        lane.measurer.pass_by()
        lane.treatment = treatment
        self.reading = Reading(
            step=lane.step,
            norms=norms if self._rows is None else self._spread(norms),
            total_norm=total,
            absent=self._absent,
            cap=self._cap,
            lr=self._lr,
            optimizer=lane.index,
            loss=lane.loss,
            time_s=lane.clock(),
        )
        lane.loss = None
        return True

    def go_on(self) -> None:
        """The step on it, measured before it began, begins."""
        if self.reading is not None and self._lane.loss is not None:  # logged since
            self.reading, self._lane.loss = replace(self.reading, loss=self._lane.loss), None

    def leaves(self) -> None:
        """The step on it has ended."""
        reading, self.reading = self.reading, None
        if reading is not None:
            self._lane.count()
            self._outlet.passed(self._track, reading)

    def give_back(self, groups: Groups) -> None:
        """The step on it turns out to be no plain one: its closure is called once more. It goes the long way from here."""
        reading, self.reading = self.reading, None
        if reading is not None:
            self._outlet.settle()
            found = self._measurement(self._table.hyper(groups), reading.norms, reading.total_norm)
            self._lane.resume(StepUnderWay(found, Verdict(cap=reading.cap), reading))

    def _take_rates(self, rates: Sequence[GroupHyper]) -> None:
        """Ask up to which norm the coming steps are plain at these rates."""
        policy, most = self._lane.policy, sys.float_info.max
        self._rates, self._lr = rates, facts_of(rates).lr
        self._quiet = (
            most if policy is None else min(most, policy.leaves_alone_up_to(self._measurement(rates)))
        )

    def _measurement(
        self, rates: Sequence[GroupHyper], norms: FloatArray = _NOTHING, total: float = 0.0
    ) -> HostMeasurement:
        table = self._table
        found = HostMeasurement.of(
            norms,
            total,
            grads=(),
            params=table.params,
            tensors=table.tensors,
            groups=rates,
            group_of=table.group_of,
            elsewhere=False,
        )
        found.param_norms = self._lane.newest_param_norms
        return found

    def _lay_out(self, groups: Groups) -> bool:
        """Take note of which parameters have a gradient; whether any has, and the table knows them all."""
        if self._table.grown(groups):
            return False
        lacks = [param.grad is None for param in self._table.params]
        if lacks != self._lacks:
            self._norms = None
        self._lacks = lacks
        self._rows = self._absent = None
        if any(lacks):
            self._absent = np.array(lacks)
            self._rows = np.flatnonzero(~self._absent).tolist()
        return not all(lacks)

    def _gradients(self, groups: Groups) -> list[Tensor] | None:
        """Gradients of the step in the table's order, ``p`` of them; None where other parameters have one than had."""
        if self._table.grown(groups):
            return None
        grads = [param.grad for param in self._table.params]
        # By type, and in one sweep, because they are many.
        if None.__class__ not in set(map(type, grads)):
            return grads if self._absent is None else None  # type: ignore[return-value]
        if [grad is None for grad in grads] != self._lacks:
            return None
        return [grad for grad in grads if grad is not None]

    def _spread(self, norms: FloatArray) -> FloatArray:
        everywhere: FloatArray = np.zeros(len(self._table), norms.dtype)
        everywhere[self._rows] = norms
        return everywhere
