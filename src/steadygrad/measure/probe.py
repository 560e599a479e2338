"""Measurements too dear for every step: spaced by what they cost, not by a fixed interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from steadygrad.measure.kinds import NARROW
from steadygrad.measure.spending import Spending

# Update sizes are for the record; one of them in a few hundred steps draws the curve. A tenth of the
# default budget of 2 % leaves the rest to what acts at every step.
PROBE_SHARE = 0.1
MIN_SPACING = 16
# Whether a step is too large for the weights is decided in the first steps: they are probed at doubling
# spacing, whatever a probe costs, and later probes wait until that is paid off.
EARLY_STEPS = 128
# A norm from 16,384 of the elements is within about 1 % of the whole for anything but a few spikes.
SAMPLE_NUMEL = 16_384
CONV2D_DIMS = 4


class Budget:
    """Spaces probes so that they take at most a share of the training's time.

    The first are at steps 0, 1, 2, 4, ... up to `EARLY_STEPS`. Later ones wait until everything spent so
    far, those included, is within ``share`` of the time that the steps have taken, and are never closer than
    `MIN_SPACING`. Where the work of every step takes most of ``overhead``, less than ``share`` is left to them.

    Args:
        overhead: share of the step time steadygrad may take in all.
        share: share of that overhead which these probes may take.
        spending: knows what else is spent, and how long the steps take.

    Attributes:
        spent_s: time spent so far.
    """

    def __init__(
        self,
        overhead: float,
        share: float = PROBE_SHARE,
        spending: Spending | None = None,
    ) -> None:
        self._overhead, self._share = overhead, overhead * share
        self._spending = spending or Spending()
        self._began: int | None = None
        self._began_s = 0.0
        self._next = 0
        self.spent_s = 0.0

    def due(self, step: int, *, always: bool = False) -> bool:
        """Whether a probe fits the budget at this step; ask at every step from the first on.

        Args:
            step: index of the step.
            always: the step costs many times as much as a probe.
        """
        if self._began is None:
            self._began, self._began_s, self._next = step, self._spending.trained(), step
        return (always or step >= self._next) and self._share > 0.0

    @property
    def next_due(self) -> float:
        """The first step that `due` will say yes to; infinite where there is none."""
        return self._next if self._share > 0.0 else math.inf

    def owe(self, cost_s: float) -> None:
        """Account for time spent beside the probes: later ones wait for it."""
        self.spent_s += cost_s
        self._spending.rare_s += cost_s

    def paid(self, step: int, cost_s: float) -> None:
        """Account for a probe made at ``step``."""
        began = self._began or 0
        age = step - began
        self.owe(cost_s)
        if age < EARLY_STEPS:
            self._next = began + (1 << age.bit_length())
            return
        share = self._share * self._spending.room(self._overhead)
        allowance_s = share * (self._spending.trained() - self._began_s) / age
        afforded = began + self.spent_s / allowance_s if allowance_s > 0.0 else 0.0
        self._next = max(step + MIN_SPACING, int(afforded) + 1)


class UpdateProbe:
    """Measures ``||theta_after - theta_before||`` of every parameter over one step.

    A tensor of more than `SAMPLE_NUMEL` elements is sampled at even spacing and the norm scaled by
    ``sqrt(numel / sampled)``: the copy stays small beside the model, however large that is.
    """

    def __init__(self) -> None:
        self._before: list[Tensor] | None = None

    def open(self, params: Sequence[Tensor]) -> None:
        """Remember the parameters as they are before the step."""
        self._before = [_sample(param).clone() for param in params]

    def forget(self) -> None:
        """Leave this step unmeasured."""
        self._before = None

    def close(self, params: Sequence[Tensor]) -> Tensor | None:
        """Norms of what the step changed, ``[P]`` float32; None when no probe is open."""
        before, self._before = self._before, None
        if before is None or len(before) != len(params):
            return None
        after = [_sample(param) for param in params]
        with torch.no_grad():
            norms = [
                _change(old, new).to(params[0].device, torch.float32) * _sampling_factor(param, new)
                for old, new, param in zip(before, after, params, strict=True)
            ]
        return torch.stack(norms) if norms else None


def _change(old: Tensor, new: Tensor) -> Tensor:
    if old.numel() != new.numel():  # a lazy module has given it a shape in between
        return torch.zeros((), device=new.device)
    if new.dtype in NARROW:
        old, new = old.to(torch.float32), new.to(torch.float32)
    norm: Tensor = torch.linalg.vector_norm((new - old).to(_sum_dtype(new)))
    return norm


def _sampling_factor(param: Tensor, sampled: Tensor) -> float:
    return math.sqrt(param.numel() / sampled.numel()) if sampled.numel() else 1.0


def _sample(param: Tensor) -> Tensor:
    """Elements of the parameter at even spacing, as a view; a rank's own shard of a DTensor."""
    if is_lazy(param):
        return torch.empty(0, device=param.device)
    values = param.detach()
    values = values.to_local() if hasattr(values, "to_local") else values
    if values.is_contiguous():
        flat = values.view(-1)
    elif values.is_contiguous(memory_format=torch.channels_last) and values.dim() == CONV2D_DIMS:
        flat = values.permute(0, 2, 3, 1).view(-1)
    else:
        flat = values.reshape(-1)
    return flat[:: max(1, flat.numel() // SAMPLE_NUMEL)]


def _sum_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype
