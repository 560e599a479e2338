"""How far a step moves the parameters: measured on a few steps, over ranks on the same ones.

Where ranks hold parts of tensors, or different ones, each measures its own and one more ``all_reduce`` adds them up. Probes are
spaced by each process's own clock, so a rank says with the collective of a step that it can afford one, and where all can, all do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from steadygrad.measure import Budget, Measurer, ParamTable, Spending, UpdateProbe, is_sharded
from steadygrad.ranks import Ranks
from steadygrad.stepping.under_way import StepUnderWay

_PROBE = "update probe"


class Moves:
    """Probes the steps of one optimizer.

    Args:
        table: the parameters.
        measurer: measures their norms.
        overhead: share of the step time that may be spent in all.
        spending: what steadygrad costs in all.
        contained: holds back faults.
    """

    def __init__(
        self,
        table: ParamTable,
        measurer: Measurer,
        overhead: float,
        spending: Spending,
        contained: Callable[..., object],
    ) -> None:
        self._measurer, self._contained = measurer, contained
        self._overhead, self._spending = overhead, spending
        self._ranks: Ranks | None = None
        # One rank that measures a DTensor while the others don't would wait for them for ever.
        cut = table.layout is not None or any(map(is_sharded, table.params))
        self.budget = Budget(0.0 if cut else overhead, spending=spending)
        self.probe = UpdateProbe()
        self._is_due = False

    def join(self, ranks: Ranks) -> None:
        """Measure what ranks hold parts of together with them."""
        if ranks.sharded and ranks.peers.probes:
            self._ranks = ranks
            self.budget = Budget(self._overhead, spending=self._spending)

    def begins(self, step: int, *, always: bool) -> None:
        """A step is about to be measured: see whether it may be probed, and tell the other ranks.

        Args:
            step: its number.
            always: it costs many times as much as a probe.
        """
        self._is_due = self.budget.due(step, always=always)
        if self._ranks is not None:
            self._ranks.due = self._is_due

    def opens(self, now: StepUnderWay, *, is_sure: bool) -> None:
        """Remember the parameters as they are, where the step is to be probed.

        Args:
            now: the step.
            is_sure: an optimizer makes it now, on every rank. After a clip a ``GradScaler`` may leave it out on some ranks, and the
                end of one made by hand is seen too late: there the others would wait.
        """
        now.joint = self._ranks is not None and self._ranks.all_due and is_sure
        if now.joint or (self._is_due and self._ranks is None):
            self._contained(_PROBE, self._open, now)

    def forget(self, now: StepUnderWay) -> None:
        """Leave this step unmeasured, on every rank."""
        now.probing = now.joint = False
        self.probe.forget()

    def close(self, now: StepUnderWay) -> Tensor | None:
        """Norms of what the step changed, ``[P]``; None where it wasn't probed, or a rank couldn't.

        Raises:
            RankLost: another rank doesn't answer any more.
        """
        if not now.joint:
            found = self._contained(_PROBE, self.probe.close, now.measurement.params) if now.probing else None
            return found if isinstance(found, Tensor) else None
        now.joint = False
        own = self._contained(_PROBE, self._own, now) if now.probing else None
        assert self._ranks is not None
        whole = self._ranks.moved(own if isinstance(own, list) else None)
        if whole is None:
            return None
        if now.param_norms is None:
            now.param_norms = whole[1].to(now.measurement.norms.dtype)
        return whole[0].to(torch.float32)

    def _open(self, now: StepUnderWay) -> None:
        began = time.perf_counter()
        params = self._parts(now)
        if self._ranks is None and now.param_norms is None:
            now.param_norms = self._measurer.norms_of(params)
        if self._ranks is not None:
            now.own_norms = self._measurer.norms_of(params)
        self.probe.open(params)
        now.probing = True
        self.budget.paid(now.reading.step, 2 * (time.perf_counter() - began))

    def _parts(self, now: StepUnderWay) -> Sequence[Tensor]:
        params = now.measurement.params
        return params if self._ranks is None else self._ranks.own_parts(params)

    def _own(self, now: StepUnderWay) -> list[Tensor] | None:
        updates = self.probe.close(self._parts(now))
        return None if updates is None or now.own_norms is None else [updates, now.own_norms]
