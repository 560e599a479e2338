"""How large the gradient is at each time step of a recurrent module, beside what came in from the loss.

Shape legend: T time steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from steadygrad.calling import tensors_in

Timed = Callable[..., Any]
"""Calls a function with arguments, accounts for its time and holds back its faults."""


class Sequence:
    """One call of a recurrent module, listened to on its way back.

    Args:
        module: `nn.RNN`, `nn.LSTM` or `nn.GRU`.

    Attributes:
        norms: norm at each time step and what entered, ``[T + 1]`` on the device, in one and the same unit; None until
            the gradient has passed.
        gated: whether sigmoid gates multiply the state.
        both_ways: whether it also reads from the end.
    """

    def __init__(self, module: nn.RNNBase) -> None:
        self.norms: Tensor | None = None
        self.gated = isinstance(module, (nn.LSTM, nn.GRU))
        self.both_ways = module.bidirectional
        self._batch_first = module.batch_first
        self._entered: Tensor | None = None
        self._answered = False

    @property
    def length(self) -> int:
        """Time steps."""
        return 0 if self.norms is None else len(self.norms) - 1

    def given(self, value: Any, timed: Timed) -> Any:
        """Hook onto the input; returns what the module is to be called with."""
        packed = value if isinstance(value, PackedSequence) else None
        values: Tensor = value if packed is None else packed.data
        fresh = not values.requires_grad
        if fresh:
            values = values.detach().requires_grad_()
        time_dim = 1 if self._batch_first and values.dim() == 3 else 0
        sizes = None if packed is None else packed.batch_sizes.tolist()

        def keep(grad: Tensor | None) -> None:
            # None where the node behind it got a gradient for another of its outputs only.
            if grad is not None:
                self.norms = timed(norms_in_time, grad.detach(), self._entered, time_dim, sizes)

        values.register_hook(keep)  # type: ignore[no-untyped-call]
        if not fresh:
            return value
        return values if packed is None else packed._replace(data=values)

    def returned(self, output: object, timed: Timed) -> None:
        """Hook onto what the module returned from its first call."""
        if self._answered:
            return
        self._answered = True

        def come_in(grad: Tensor | None) -> None:
            if grad is not None:
                self._entered = timed(_together, self._entered, grad.detach())

        for tensor in tensors_in(output):
            if tensor.requires_grad:
                tensor.register_hook(come_in)  # type: ignore[no-untyped-call]


def norms_in_time(grad: Tensor, entered: Tensor | None, time_dim: int, sizes: list[int] | None) -> Tensor:
    """Gradient norm at each time step, and at the end what entered from the loss, ``[T + 1]``.

    Relative to the gradient's largest element, so that float32 squares nothing away.

    Args:
        grad: with respect to the input.
        entered: norm of what came in from the loss; None, and 0 in the answer, where it isn't known.
        time_dim: dimension of the time steps.
        sizes: rows of each time step where they are packed one after the other.
    """
    wide = grad.float()
    largest = wide.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    wide = wide / largest
    norms: Tensor = (
        torch.linalg.vector_norm(wide.movedim(time_dim, 0).flatten(1), dim=1)
        if sizes is None
        else torch.stack([torch.linalg.vector_norm(part) for part in torch.split(wide, sizes)])
    )
    came = norms.new_zeros(1) if entered is None else (entered / largest).reshape(1)
    return torch.cat([norms, came])


def _together(entered: Tensor | None, grad: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(grad.float())
    return norm if entered is None else torch.hypot(entered, norm)
