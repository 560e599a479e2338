"""The one call a step: gradients of one optimizer in, a Measurement out.

Shape legend: P parameters the optimizer holds, p those of them that have a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parameter import is_lazy

from steadygrad.measure.device_norms import device_norms, scaled_norm
from steadygrad.measure.host_norms import HostNorms
from steadygrad.measure.layout import holds_long
from steadygrad.measure.measurement import PARAM_NORM_EVERY, HostMeasurement, Measurement
from steadygrad.measure.out_of_range import MOST_FLOAT32, host_total, narrowed
from steadygrad.measure.table import ParamTable
from steadygrad.records import BoolArray, FloatArray

# Layer drop and mixtures of experts leave other gradients out at every step; a plan is dear to make.
MAX_PLANS = 8


class Together(Protocol):
    """The ranks of one training; `steadygrad.ranks.Ranks`."""

    @property
    def sharded(self) -> bool:
        """Whether a parameter is cut into parts."""

    def grow(self) -> None:
        """Parameters were appended."""

    def own_parts(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """This rank's parts."""

    def join(self, norms: Tensor, param_norms: Tensor | None, step: int) -> list[Tensor]:
        """Norms of the parts in, true norms out."""

    def join_host(self, norms: FloatArray, step: int) -> NDArray[np.float64]:
        """The same of gradients alone, in host memory."""


class Measurer:
    """Measures the gradients of one optimizer, step after step.

    Args:
        table: the optimizer's parameters.
        late: the numbers live on an accelerator and the host must not wait for them.
        param_norms: whether `fresh_param_norms` is to measure them.
    """

    def __init__(self, table: ParamTable, *, late: bool, param_norms: bool) -> None:
        self._table = table
        self._late = late
        self._wants_param_norms = param_norms
        self._param_norms: Tensor | None = None
        self._joined_params: Tensor | None = None
        self._countdown = 0
        self._plans: dict[tuple[int, ...], HostNorms] = {}  # by the missing positions, oldest use first
        self._params_engine: HostNorms | None = None
        self.refreshed_param_norms = False
        self.together: Together | None = None
        self._is_long = holds_long(table.params, table.layout)

    @property
    def joins_param_norms(self) -> bool:
        """Whether the parameters' norms go with the next step's over the ranks."""
        cut = self.together is not None and self.together.sharded
        return cut and self._wants_param_norms and self._countdown == 0

    def measure(
        self,
        groups: Sequence[Mapping[str, Any]],
        grad_scale: Tensor | None,
        step: int = 0,
    ) -> Measurement:
        """Measure the step whose gradients are ready now; parameter norms are left out.

        Args:
            groups: the optimizer's parameter groups.
            grad_scale: factor the gradients are still multiplied by, 0-d, or None.
            step: number of the step, told to the other ranks.
        """
        table = self._table
        grads, missing = _gradients(table.params)
        if not (self._late or missing or grad_scale is not None or self.joins_param_norms) and grads:
            return self._measured_on_host(grads, groups, step)
        parts = grads if self.together is None else self.together.own_parts(grads)
        norms, total = self._late_norms(parts) if self._late else self._host_norms(parts, missing)
        absent = _absent(len(table), missing) if missing else None
        present = None
        if absent is not None:
            present = torch.from_numpy(np.flatnonzero(~absent)).to(norms.device, non_blocking=True)
            everywhere = torch.zeros(len(table), dtype=norms.dtype, device=norms.device)
            norms = everywhere.index_copy(0, present, norms)
        if self.together is not None:
            norms, total = self._joined(self.together, norms, step)
        if grad_scale is not None:
            unscale = grad_scale.to(norms.device, norms.dtype, non_blocking=True).reciprocal()
            norms, total = norms * unscale, total * unscale
        return Measurement(
            norms=norms,
            total_norm=total,
            grads=grads,
            present=present,
            params=table.params,
            tensors=table.tensors,
            param_norms=None,
            groups=table.hyper(groups),
            group_of=table.group_of,
            grad_scale=grad_scale,
            absent=absent,
            known_total=None if self._late else total.item(),
            elsewhere=table.layout is not None,
        )

    def _measured_on_host(
        self, grads: list[Tensor], groups: Sequence[Mapping[str, Any]], step: int
    ) -> HostMeasurement:
        """Nearly every step in host memory: each parameter has a gradient, and it is as it is."""
        table, together = self._table, self.together
        if together is None:
            norms, total = self._plan((), grads)(grads)
        else:
            parts = together.own_parts(grads)
            norms, _ = self._plan((), parts)(parts)
            true = together.join_host(norms, step)
            total = host_total(true)
            # Then each of them fits: nobody has to look.
            fits = total < MOST_FLOAT32
            norms = true.astype(norms.dtype) if fits else narrowed(true, norms.dtype)
            self._joined_params = None
        return HostMeasurement.of(
            norms,
            total,
            grads=grads,
            params=table.params,
            tensors=table.tensors,
            groups=table.hyper(groups),
            group_of=table.group_of,
            elsewhere=table.layout is not None,
        )

    def fresh_param_norms(self) -> Tensor | None:
        """Parameter norms ``[P]``, measured again every `PARAM_NORM_EVERY` calls; call once a step.

        Apart from `measure`, so that a fault in here costs the norms of the parameters and not the step.
        """
        self.refreshed_param_norms = False
        if not self._wants_param_norms:
            return None
        if self._countdown <= 0:
            joined, self._joined_params = self._joined_params, None
            self._param_norms = joined if joined is not None else self.norms_of(self._table.params)
            self._countdown = PARAM_NORM_EVERY
            self.refreshed_param_norms = True
        self._countdown -= 1
        return self._param_norms

    @property
    def param_norms_due(self) -> float:
        """Steps until `fresh_param_norms` measures again; infinite where it never does."""
        return self._countdown if self._wants_param_norms else math.inf

    def pass_by(self) -> None:
        """A step is made whose parameters aren't asked for."""
        self._countdown -= self._wants_param_norms

    @property
    def newest_param_norms(self) -> Tensor | None:
        """What `fresh_param_norms` measured last."""
        return self._param_norms

    def expire_param_norms(self) -> None:
        """Have `fresh_param_norms` measure at the next call; what it has measured in this step is of no use."""
        self._countdown = 0
        self.refreshed_param_norms = False

    def norms_of(self, params: Sequence[Tensor]) -> Tensor:
        """Norms ``[P]`` of parameters; 0 for one that a lazy module has not given a shape yet."""
        with torch.no_grad():
            tensors = [_values(param) for param in params] if any(map(is_lazy, params)) else params
            if self._late:
                return device_norms(tensors)
            if self._params_engine is None:
                self._params_engine = HostNorms(tensors)
            norms, _ = self._params_engine(tensors)
            return torch.from_numpy(norms)

    def grow(self) -> None:
        """Forget all plans: other parameters are held now."""
        self._plans.clear()
        self._params_engine = None
        self._is_long = holds_long(self._table.params, self._table.layout)
        # Where ranks hold different tensors, the rows stay and this one may be alone in having others in them: what goes
        # with which step is the same on all ranks.
        if self._table.layout is None:
            self._countdown = 0
        if self.together is not None:
            self.together.grow()

    def _joined(self, together: Together, norms: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """True norms and their total, the same to the last bit on every rank."""
        params = self.norms_of(together.own_parts(self._table.params)) if self.joins_param_norms else None
        joined = together.join(norms, params, step)
        if self._late:
            narrow = [one.to(norms.dtype) for one in joined]
            total = self._late_total(joined[0])
        else:
            narrow = [torch.from_numpy(narrowed(one.numpy(), norms.numpy().dtype)) for one in joined]
            total = torch.from_numpy(np.asarray(host_total(joined[0].numpy())))
        self._joined_params = narrow[1] if params is not None else None
        return narrow[0], total

    def _host_norms(self, grads: list[Tensor], missing: list[int]) -> tuple[Tensor, Tensor]:
        if not grads:
            return torch.zeros(0), torch.zeros(())
        norms, total = self._plan(tuple(missing), grads)(grads)
        # From numpy, because torch.tensor(float) alone takes a tenth of a small model's budget.
        return torch.from_numpy(norms), torch.from_numpy(np.asarray(total))

    def _plan(self, missing: tuple[int, ...], grads: list[Tensor]) -> HostNorms:
        plan = self._plans.pop(missing, None) or HostNorms(grads)
        self._plans[missing] = plan
        if len(self._plans) > MAX_PLANS:
            del self._plans[next(iter(self._plans))]
        return plan

    def _late_norms(self, grads: list[Tensor]) -> tuple[Tensor, Tensor]:
        if not grads:
            home = self._table.params[0].device if self._table.params else None
            return torch.zeros(0, device=home), torch.zeros((), device=home)
        norms = device_norms(grads)
        return norms, self._late_total(norms)

    def _late_total(self, norms: Tensor) -> Tensor:
        return scaled_norm(norms) if self._is_long else torch.linalg.vector_norm(norms)


def _gradients(params: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
    """Gradients there are, and the positions of those there aren't."""
    grads = [param.grad for param in params]
    # By type, because a tensor answers `==` with a tensor; and in one sweep, because they are many.
    if None.__class__ not in set(map(type, grads)):
        return grads, []  # type: ignore[return-value]
    missing = [position for position, grad in enumerate(grads) if grad is None]
    return [grad for grad in grads if grad is not None], missing


def _values(param: Tensor) -> Tensor:
    return torch.empty(0, device=param.device) if is_lazy(param) else param.detach()


def _absent(count: int, missing: list[int]) -> BoolArray:
    mask = np.zeros(count, np.bool_)
    mask[missing] = True
    return mask
