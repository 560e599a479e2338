"""Hooks on what modules return, for one forward and backward pass.

Tensor hooks and forward hooks only: full backward hooks break in-place activations.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from steadygrad.calling import tensors_in
from steadygrad.gains import bare
from steadygrad.gains.norms import norm_of, scale_of
from steadygrad.gains.record import Gains, Layer
from steadygrad.gains.recurrence import Loop
from steadygrad.gains.sequences import Sequence
from steadygrad.gains.time_gain import TimeGain

LEAST_CALLS = 3
"""Calls of a cell that make a sequence."""

CELLS = (nn.LSTMCell, nn.GRUCell)


@dataclass(slots=True)
class _Call:
    """One call of a layer.

    Attributes:
        module: the layer.
        signal: root mean square of what it returned.
        square: square of the gradient norm that came back, over all it returned; None where none came.
    """

    module: nn.Module
    signal: float
    square: float | None = None


class GainProbe:
    """Writes down the gradient that comes back to every layer; use `attached`.

    Args:
        model: its modules that own a weight of two dimensions or more are the layers.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = {module: name for name, module in reversed(list(model.named_modules()))}
        self._calls: list[_Call] = []
        self._loops: dict[nn.Module, Loop] = {}
        self._sequences: list[Sequence] = []
        self._listens = True
        self._model = model
        self._bare: list[bare.Bare] = []

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Listen inside; every hook is gone afterwards."""
        with contextlib.ExitStack() as stack:
            for module in self._names:
                if isinstance(module, nn.RNNBase):
                    handle = module.register_forward_pre_hook(self._sequence, with_kwargs=True)
                    stack.callback(handle.remove)
                elif not _is_layer(module):
                    continue
                else:
                    before = module.register_forward_pre_hook(self._entered, with_kwargs=True)
                    stack.callback(before.remove)
                stack.callback(module.register_forward_hook(self._left).remove)
            yield

    def forward_ended(self, loss: Tensor) -> None:
        """What modules do from here on is the recomputation of a checkpoint, seen before.

        Args:
            loss: whose backward pass comes next.
        """
        self._listens = False
        self._bare = bare.listen(self._model, loss)

    def gains(self) -> Gains:
        """What was seen."""
        # A chain passes each module once: where a module was called more often, all its calls are one layer.
        together: dict[nn.Module, list[_Call]] = {}
        for call in self._calls:
            together.setdefault(call.module, []).append(call)
        reached = {module: norm for module, calls in together.items() if (norm := _norm(calls)) is not None}
        norms = list(reached.values())
        layers = [
            Layer(self._names[module], norm, together[module][0].signal, _growth(norms, i))
            for i, (module, norm) in enumerate(reached.items())
        ]
        signals = tuple(calls[0].signal for calls in together.values())
        return Gains(tuple(layers), tuple(self._through_time(together)), signals)

    def _through_time(self, together: dict[nn.Module, list[_Call]]) -> Iterator[TimeGain]:
        for sequence in self._sequences:
            if len(sequence.grad_norms) >= LEAST_CALLS or len(sequence.signals) >= LEAST_CALLS:
                yield sequence.gain(self._names[sequence.module])
        for module, calls in together.items():
            loop = self._loops.get(module)
            if loop is None or not loop.fed_back or len(calls) < LEAST_CALLS:
                continue
            norms = tuple(math.sqrt(call.square or 0.0) for call in calls)
            gated = loop.gated or isinstance(module, CELLS)
            signals = tuple(call.signal for call in calls)
            yield TimeGain(self._names[module], norms, gated=gated, signals=signals)
        looped = {
            module for module, loop in self._loops.items() if loop.fed_back and loop.calls >= LEAST_CALLS
        }
        yield from bare.steepest(
            [one for one in self._bare if self._model.get_submodule(one.owner) not in looped]
        )

    def _entered(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._listens:
            self._loops.setdefault(module, Loop()).entered(tensors_in((args, kwargs)))

    def _left(self, module: nn.Module, args: Any, output: Any) -> None:
        del args
        outputs = [tensor for tensor in tensors_in(output) if tensor.is_floating_point()]
        if not self._listens or not outputs:
            return
        if module in self._loops:
            self._loops[module].left(outputs)
        call = _Call(module, scale_of(outputs[0]))
        self._calls.append(call)

        def keep(grad: Tensor | None) -> None:
            # None where the node behind it got a gradient for another of its outputs only.
            if grad is not None:
                call.square = (call.square or 0.0) + norm_of(grad)[0] ** 2

        for tensor in outputs:
            if tensor.requires_grad:
                tensor.register_hook(keep)  # type: ignore[no-untyped-call]
        if self._sequences and self._sequences[-1].module is module:
            self._sequences[-1].returned(output)

    def _sequence(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        if not self._listens or not isinstance(module, nn.RNNBase):
            return None
        self._sequences.append(Sequence(module))
        return self._sequences[-1].listen(args, kwargs)


def _is_layer(module: nn.Module) -> bool:
    matrix = any(param.dim() > 1 for param in module.parameters(recurse=False))
    return matrix and not isinstance(module, (nn.Embedding, nn.EmbeddingBag))


def _norm(calls: Iterable[_Call]) -> float | None:
    squares = [call.square for call in calls if call.square is not None]
    return math.sqrt(sum(squares)) if squares else None


def _growth(norms: list[float], i: int) -> float:
    later = norms[i + 1] if i + 1 < len(norms) else norms[i]
    return norms[i] / later if later > 0 else (1.0 if norms[i] == 0 else math.inf)
