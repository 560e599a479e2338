"""How far a step moves the parameters: measured on a few steps."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor

from steadygrad.measure import Budget, Measurer, ParamTable, Spending, UpdateProbe, is_sharded
from steadygrad.stepping.under_way import StepUnderWay

_PROBE = "update probe"


class Moves:
    """Probes the steps of one optimizer, but for those of ranks that hold parts of tensors or different ones.

    There it would take one more collective, and probes are spaced by each process's own clock: one that measures a DTensor while
    the others don't would wait for them for ever.

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
        cut = table.layout is not None or any(map(is_sharded, table.params))
        self.budget = Budget(0.0 if cut else overhead, spending=spending)
        self.probe = UpdateProbe()

    def begins(self, now: StepUnderWay, *, always: bool, fits: bool) -> None:
        """A step has been measured and judged: remember the parameters as they are, where it is to be probed.

        Args:
            now: the step.
            always: it costs many times as much as a probe.
            fits: nothing speaks against a probe in this one.
        """
        if self.budget.due(now.reading.step, always=always) and fits:
            self._contained(_PROBE, self._open, now)

    def forget(self, now: StepUnderWay) -> None:
        """Leave this step unmeasured."""
        now.probing = False
        self.probe.forget()

    def close(self, now: StepUnderWay) -> Tensor | None:
        """Norms of what the step changed, ``[P]``; None where it wasn't probed."""
        found = self._contained(_PROBE, self.probe.close, now.measurement.params) if now.probing else None
        return found if isinstance(found, Tensor) else None

    def _open(self, now: StepUnderWay) -> None:
        began = time.perf_counter()
        if now.param_norms is None:
            now.param_norms = self._measurer.norms_of(now.measurement.params)
        self.probe.open(now.measurement.params)
        now.probing = True
        self.budget.paid(now.reading.step, 2 * (time.perf_counter() - began))
