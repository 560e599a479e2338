"""One forward and backward pass with hooks on what modules return.

Tensor hooks and forward hooks only: full backward hooks break in-place activations.

Shape legend: T time steps, N batch, D features.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from steadygrad.calling import LossFn, call_model, loss_of, tensors_in
from steadygrad.gains.record import Gains, Layer, TimeGain
from steadygrad.preserve import preserved

MOST_CALLS = 512
"""Calls that are written down: a cell in a loop over thousands of steps tells all it has to tell before."""


class GainProbe:
    """Writes down the gradient that comes back to every layer; use `attached`.

    Args:
        model: its modules that own a weight of two dimensions or more are the layers.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = {module: name for name, module in reversed(list(model.named_modules()))}
        self._layers: list[tuple[nn.Module, float]] = []
        self._grad_norms: dict[int, float] = {}
        self._sequences: list[tuple[nn.Module, list[float]]] = []

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Listen inside; every hook is gone afterwards."""
        handles: list[Any] = []
        try:
            for module in self._names:
                if isinstance(module, nn.RNNBase):
                    handles.append(module.register_forward_pre_hook(self._sequence))
                if _has_matrix(module):
                    handles.append(module.register_forward_hook(self._layer))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def gains(self) -> Gains:
        """What was seen."""
        norms = [self._grad_norms.get(i, 0.0) for i in range(len(self._layers))]
        layers = []
        for i, (module, scale) in enumerate(self._layers):
            later = norms[i + 1] if i + 1 < len(norms) else norms[i]
            growth = norms[i] / later if later > 0 else (1.0 if norms[i] == 0 else math.inf)
            layers.append(Layer(self._names[module], norms[i], scale, growth))
        return Gains(tuple(layers), tuple(self._through_time()))

    def _through_time(self) -> Iterator[TimeGain]:
        for module, norms in self._sequences:
            if len(norms) > 1:
                yield TimeGain(self._names[module], tuple(norms), isinstance(module, (nn.LSTM, nn.GRU)))
        calls: dict[nn.Module, list[float]] = {}
        for i, (module, _) in enumerate(self._layers):
            calls.setdefault(module, []).append(self._grad_norms.get(i, 0.0))
        for module, norms in calls.items():
            if len(norms) > 2:
                yield TimeGain(
                    self._names[module], tuple(norms), isinstance(module, (nn.LSTMCell, nn.GRUCell))
                )

    def _layer(self, module: nn.Module, args: Any, output: Any) -> None:
        del args
        tensor = next((t for t in tensors_in(_plain(output)) if t.is_floating_point()), None)
        if tensor is None or not tensor.requires_grad or len(self._layers) >= MOST_CALLS:
            return
        position = len(self._layers)
        self._layers.append((module, float(tensor.detach().float().square().mean().sqrt())))

        def keep(grad: Tensor) -> None:
            self._grad_norms[position] = float(torch.linalg.vector_norm(grad.double()))

        tensor.register_hook(keep)  # type: ignore[no-untyped-call]

    def _sequence(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if (
            not isinstance(module, nn.RNNBase)
            or not args
            or not isinstance(args[0], (Tensor, PackedSequence))
        ):
            return None
        values = args[0].data if isinstance(args[0], PackedSequence) else args[0]
        if not values.requires_grad:
            values = values.detach().requires_grad_()
        norms: list[float] = []
        self._sequences.append((module, norms))
        packed = args[0] if isinstance(args[0], PackedSequence) else None
        time_dim = 1 if module.batch_first and values.dim() == 3 else 0

        def keep(grad: Tensor) -> None:
            norms[:] = _step_norms(grad, packed, time_dim)

        values.register_hook(keep)  # type: ignore[no-untyped-call]
        return (values if packed is None else packed._replace(data=values), *args[1:])


def measure_gains(model: nn.Module, batch: object, loss_fn: LossFn | None = None) -> Gains:
    """Measure the growth of the gradient from layer to layer and from time step to time step.

    Args:
        model: left as it was.
        batch: what it takes.
        loss_fn: as in `steadygrad.check`.

    Returns:
        The gains.

    Example:
        >>> model = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(4)))
        >>> gains = measure_gains(model, torch.randn(16, 8), lambda out: out.square().mean())
        >>> len(gains.layers), gains.per_layer < 1
        (4, True)
    """
    probe = GainProbe(model)
    with preserved(model), torch.enable_grad(), probe.attached():
        loss = loss_of(call_model(model, batch), batch, loss_fn)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    return probe.gains()


def _has_matrix(module: nn.Module) -> bool:
    return any(param.dim() > 1 for param in module.parameters(recurse=False)) and not isinstance(
        module, nn.Embedding
    )


def _plain(output: Any) -> Any:
    return output.data if isinstance(output, PackedSequence) else output


def _step_norms(grad: Tensor, packed: PackedSequence | None, time_dim: int) -> list[float]:
    wide = grad.double()
    if packed is not None:
        parts: Any = torch.split(wide, packed.batch_sizes.tolist())
        return [float(torch.linalg.vector_norm(part)) for part in parts]
    others = [dim for dim in range(wide.dim()) if dim != time_dim]
    steps: list[float] = torch.linalg.vector_norm(wide, dim=others).tolist()
    return steps
