"""What the chain rule multiplied, layer by layer and time step by time step, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from steadygrad.gains.fit import growth_per_place, steepest_stretch
from steadygrad.gains.time_gain import TimeGain
from steadygrad.report.wording import layer


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
class Stretch:
    """The layers that carry most of the growth.

    Attributes:
        first: the one nearest to the input.
        last: the one nearest to the loss.
        layers: how many steps from layer to layer lie between them.
        factor: gradient norm at the first relative to the last.
    """

    first: str
    last: str
    layers: int
    factor: float

    @property
    def per_layer(self) -> float:
        """The factor's share of each layer."""
        return (
            self.factor ** (1.0 / self.layers) if self.layers and math.isfinite(self.factor) else self.factor
        )


@dataclass(frozen=True, slots=True)
class Gains:
    """The product in the chain rule, made visible.

    Attributes:
        layers: those that the loss reaches, in forward order.
        time: one for each recurrent module.
        signals: root mean square of the output of every layer that ran, in forward order.
    """

    layers: tuple[Layer, ...] = ()
    time: tuple[TimeGain, ...] = ()
    signals: tuple[float, ...] = ()

    @property
    def per_layer(self) -> float:
        """Fitted growth of the gradient for each layer back; 1 is healthy."""
        return growth_per_place([layer.grad_norm for layer in self.layers])

    @property
    def signal_per_layer(self) -> float:
        """Fitted growth of the signal for each layer on; 1 is healthy."""
        growth = growth_per_place(self.signals)
        return 1.0 / growth if growth > 0 else math.inf

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
    def stretch(self) -> Stretch:
        """The layers between which it happens, and the factor gained on the way back."""
        if not self.layers:
            return Stretch("", "", 0, 1.0)
        start, end = steepest_stretch([layer.grad_norm for layer in self.layers])
        first, last = self.layers[start], self.layers[end]
        factor = first.grad_norm / last.grad_norm if last.grad_norm else 1.0
        return Stretch(first.module, last.module, end - start, factor)

    def __str__(self) -> str:
        """Growth per layer, the stretch that carries it, growth per time step."""
        lines = []
        if len(self.layers) > 1:
            part = self.stretch
            where = (
                f"; x{part.per_layer:.3g} per layer over {layer(part.first)} to {layer(part.last)}: {part.factor:.2g} in all"
                if part.layers and not 1e-2 < part.factor < 1e2
                else ""
            )
            lines.append(
                f"gradient x{self.per_layer:.3g} per layer back over {len(self.layers)} layers{where}"
            )
        for one in self.time:
            name = one.module or "the model"
            steps = len(one.grad_norms)
            lines.append(
                f"gradient x{one.per_step:.3g} per time step back in {name}: reaches {one.horizon} of {steps} steps"
            )
        return "\n".join(lines)
