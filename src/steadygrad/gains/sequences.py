"""The gradient with respect to the input of `nn.RNN`, `nn.LSTM` and `nn.GRU`, time step by time step.

Shape legend: T time steps, N batch, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from steadygrad.calling import tensors_in
from steadygrad.gains.norms import norm_of
from steadygrad.gains.time_gain import TimeGain


@dataclass(slots=True)
class Sequence:
    """One call of a recurrent module.

    Attributes:
        module: the module.
        grad_norms: as in `TimeGain`.
        signals: as in `TimeGain`.
        entered: squares of the norms that came in from the loss.
    """

    module: nn.RNNBase
    grad_norms: list[float] = field(default_factory=list)
    signals: list[float] = field(default_factory=list)
    entered: list[float] = field(default_factory=list)

    def listen(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Hook onto the input; returns what the module is to be called with."""
        given = args[0] if args else kwargs.get("input")
        if not isinstance(given, (Tensor, PackedSequence)):
            return args, kwargs
        packed = given if isinstance(given, PackedSequence) else None
        values: Tensor = given.data if isinstance(given, PackedSequence) else given
        if not values.requires_grad:
            values = values.detach().requires_grad_()

        def keep(grad: Tensor | None) -> None:
            # None where the node behind it got a gradient for another of its outputs only.
            if grad is not None:
                self.grad_norms[:] = norm_of(grad, *self._split(grad, packed))

        values.register_hook(keep)  # type: ignore[no-untyped-call]
        given = values if packed is None else packed._replace(data=values)
        return ((given, *args[1:]), kwargs) if args else (args, {**kwargs, "input": given})

    def returned(self, output: Any) -> None:
        """Hook onto what the module returned."""

        def come_in(grad: Tensor | None) -> None:
            if grad is not None:
                self.entered.append(norm_of(grad)[0] ** 2)

        for tensor in tensors_in(output):
            if tensor.requires_grad:
                tensor.register_hook(come_in)  # type: ignore[no-untyped-call]
        values = output[0] if isinstance(output, tuple) else output
        packed = values if isinstance(values, PackedSequence) else None
        tensor = values if packed is None else packed.data
        if isinstance(tensor, Tensor):
            norms = norm_of(tensor.detach(), *self._split(tensor, packed))
            share = math.sqrt(max(1, tensor.numel() / max(1, len(norms))))
            self.signals[:] = [norm / share for norm in norms]

    def gain(self, name: str) -> TimeGain:
        """What was seen."""
        return TimeGain(
            name,
            tuple(self.grad_norms),
            gated=isinstance(self.module, (nn.LSTM, nn.GRU)),
            both_ways=self.module.bidirectional,
            entered=math.sqrt(sum(self.entered)),
            signals=tuple(self.signals),
        )

    def _split(self, values: Tensor, packed: PackedSequence | None) -> tuple[int | None, list[int] | None]:
        if packed is not None:
            return None, packed.batch_sizes.tolist()
        return (1 if self.module.batch_first and values.dim() == 3 else 0), None
