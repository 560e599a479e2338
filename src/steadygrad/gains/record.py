"""What the chain rule multiplied, layer by layer and time step by time step, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from steadygrad.gains.fit import growth_per_place, steepest_stretch

FLOAT32_EPS = 2.0**-23
"""A contribution smaller than this share of the largest is lost when float32 adds them up."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the chain.

    Attributes:
        module: qualified name.
        grad_norm: norm of the gradient of the loss with respect to its output.
        output_scale: root mean square of its output.
        growth: gradient norm relative to the next layer's: above 1 it grew on its way back.
    """

    module: str
    grad_norm: float
    output_scale: float
    growth: float


@dataclass(frozen=True, slots=True)
class TimeGain:
    """Growth through time in one recurrent module.

    Attributes:
        module: qualified name.
        grad_norms: gradient norm with respect to the input at each time step, ``T`` numbers.
        gated: whether it is an LSTM or a GRU, which learn to open their gates.
    """

    module: str
    grad_norms: tuple[float, ...]
    gated: bool = False

    @property
    def per_step(self) -> float:
        """Fitted growth of the gradient for each time step back."""
        return growth_per_place(self.grad_norms)

    @property
    def total(self) -> float:
        """Gradient at the first time step relative to the largest of all."""
        largest = max(self.grad_norms, default=0.0)
        return self.grad_norms[0] / largest if largest > 0 else 1.0

    @property
    def rise(self) -> float:
        """Gradient at the first time step relative to the last."""
        last = self.grad_norms[-1] if self.grad_norms else 0.0
        return self.grad_norms[0] / last if last > 0 else 1.0

    @property
    def horizon(self) -> int:
        """Time steps before the end from which float32 still hears something."""
        largest = max(self.grad_norms, default=0.0)
        heard = [t for t, norm in enumerate(self.grad_norms) if norm >= FLOAT32_EPS * largest]
        return len(self.grad_norms) - (heard[0] if heard else len(self.grad_norms))


@dataclass(frozen=True, slots=True)
class Gains:
    """The product in the chain rule, made visible.

    Attributes:
        layers: in forward order.
        time: one for each recurrent module.
    """

    layers: tuple[Layer, ...] = ()
    time: tuple[TimeGain, ...] = ()

    @property
    def per_layer(self) -> float:
        """Fitted growth of the gradient for each layer back; 1 is healthy."""
        return growth_per_place([layer.grad_norm for layer in self.layers])

    @property
    def total(self) -> float:
        """Gradient at the first layer relative to the last."""
        norms = [layer.grad_norm for layer in self.layers if math.isfinite(layer.grad_norm)]
        if len(norms) < 2:
            return 1.0
        if norms[-1] == 0.0:
            return 1.0 if norms[0] == 0.0 else math.inf
        return norms[0] / norms[-1]

    @property
    def stretch(self) -> tuple[str, str, float]:
        """The modules between which it happens, and the factor gained on the way back."""
        if not self.layers:
            return "", "", 1.0
        first, last = steepest_stretch([layer.grad_norm for layer in self.layers])
        a, b = self.layers[first], self.layers[last]
        return a.module, b.module, a.grad_norm / b.grad_norm if b.grad_norm else math.inf

    def __str__(self) -> str:
        """Growth per layer, the stretch that carries it, growth per time step."""
        first, last, factor = self.stretch
        lines = []
        if len(self.layers) > 1:
            lines.append(
                f"gradient x{self.per_layer:.3g} per layer over {first} to {last}: {factor:.2g} in all"
            )
        for one in self.time:
            name = one.module or "the model"
            lines.append(
                f"gradient x{one.per_step:.3g} per time step in {name}: reaches back {one.horizon} of "
                f"{len(one.grad_norms)} steps"
            )
        return "\n".join(lines) or "no chain of layers"
