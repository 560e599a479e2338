"""What the chain rule multiplied from time step to time step, as plain data.

Shape legend: T time steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from steadygrad.gains.fit import growth_per_place

FLOAT32_EPS = 2.0**-23
"""A contribution smaller than this share of the largest is lost when float32 adds them up."""


@dataclass(frozen=True, slots=True)
class TimeGain:
    """Growth through time in one recurrent module.

    Attributes:
        module: qualified name.
        grad_norms: gradient norm at each time step, ``[T]``: with respect to the input of an `nn.RNN`, `nn.LSTM`
            or `nn.GRU`, or to the state of a cell in a loop.
        gated: whether sigmoid gates multiply the state, as in an LSTM or a GRU, which learn to open them.
        both_ways: whether it also reads from the end.
        entered: norm of the gradient that came into the module from the loss; 0 where it isn't known.
        signals: root mean square of its output at each time step, ``[T]``; empty where it isn't known.
    """

    module: str
    grad_norms: tuple[float, ...]
    gated: bool = False
    both_ways: bool = False
    entered: float = 0.0
    signals: tuple[float, ...] = ()

    @property
    def path(self) -> tuple[float, ...]:
        """The norms that one chain of steps passes through, the last nearest to the loss.

        Steps after the last one that the loss reads have no gradient and are left out. A module that reads both
        ways hears its ends best: its chain runs from the quietest step to the louder of the two ends.
        """
        last = max((t for t, norm in enumerate(self.grad_norms) if norm > 0), default=-1)
        heard = self.grad_norms[: last + 1]
        if not self.both_ways or len(heard) < 3:
            return heard
        low = min(range(len(heard)), key=lambda t: heard[t])
        return heard[low:] if len(heard) - low > low else heard[low::-1]

    @property
    def per_step(self) -> float:
        """Fitted growth of the gradient for each time step back."""
        growth = growth_per_place(self.path)
        return 1.0 / growth if self._explodes_both_ways() and growth > 0 else growth

    @property
    def signal_per_step(self) -> float:
        """Fitted growth of the state for each time step on."""
        growth = growth_per_place(self.signals)
        return 1.0 / growth if growth > 0 else math.inf

    @property
    def total(self) -> float:
        """Gradient at the far end of the chain relative to the largest of all; 1 without a gradient."""
        largest = max(self.path, default=0.0)
        return self.path[0] / largest if largest > 0 else 1.0

    @property
    def rise(self) -> float:
        """Gradient at the far end of the chain relative to its near end: above 1 it exploded on its way."""
        if self._explodes_both_ways():
            return max(self.path) / self.entered
        return self.path[0] / self.path[-1] if self.path and self.path[-1] > 0 else 1.0

    @property
    def amplified(self) -> float:
        """Largest gradient of the chain relative to what came in from the loss; Inf where that isn't known."""
        return max(self.path, default=0.0) / self.entered if self.entered > 0 else math.inf

    @property
    def horizon(self) -> int:
        """Time steps of which float32 still hears something, counted from the last that the loss reads."""
        largest = max(self.path, default=0.0)
        heard = [t for t, norm in enumerate(self.path) if norm >= FLOAT32_EPS * largest > 0]
        if self.both_ways:
            return sum(norm >= FLOAT32_EPS * largest > 0 for norm in self.grad_norms)
        return len(self.path) - heard[0] if heard else 0

    def _explodes_both_ways(self) -> bool:
        # The quiet middle of a U looks alike whether both directions die towards it or grow away from it; only
        # the gradient that came in tells.
        return self.both_ways and 1e2 < self.amplified < math.inf
