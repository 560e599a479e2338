"""One step under instruments."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.calling import tensors_in
from steadygrad.origin import Origin
from steadygrad.preserve import preserved
from steadygrad.tracing.events import Event
from steadygrad.tracing.finiteness import has_numbers, is_finite
from steadygrad.tracing.mode import OriginMode
from steadygrad.tracing.places import Places
from steadygrad.tracing.sources import Sources
from steadygrad.tracing.telling import origin_of


class Step:
    """One forward and backward pass that can tell where it became non-finite; use `instrumented`."""

    def __init__(self, model: nn.Module, batch: object, mode: OriginMode) -> None:
        self._model = model
        self._mode = mode
        self._batch = [tensor for tensor in tensors_in(batch) if tensor.dim()]

    def forward_ended(self) -> None:
        """What follows is the loss function."""
        self._mode.phase = "loss"

    def broken_in(self, tensors: Sequence[Tensor]) -> Origin | None:
        """Where the first non-finite one of these comes from; None where all are finite."""
        for tensor in tensors:
            if has_numbers(tensor) and not is_finite(tensor.detach()):
                return self._told(self._mode.ledger.of(tensor))
        return None

    def broken_in_gradients(self, backward: Callable[[], None]) -> Origin | None:
        """Run the backward pass of a finite loss; where the first broken gradient comes from."""
        self._mode.ledger.forgive()
        backward()
        grads = [param.grad for param in self._model.parameters() if param.grad is not None]
        broken = [grad for grad in grads if has_numbers(grad) and not is_finite(grad)]
        if not broken:
            return None
        known = [event for grad in broken if (event := self._mode.ledger.of(grad)) is not None]
        of_backward = [event for event in self._mode.ledger.events if event.phase == "backward"]
        # Where gradients were summed out of sight, the first that went wrong is as good a witness.
        return self._told(min(known or of_backward[:1], key=lambda event: event.order, default=None))

    def _told(self, event: Event | None) -> Origin | None:
        if event is None:
            return None
        return origin_of(event, self._batch[0].shape[0] if self._batch else None)


@contextlib.contextmanager
def instrumented(model: nn.Module, batch: object) -> Iterator[Step]:
    """Look at every operation inside; the model is left as it was.

    Args:
        model: run inside, eagerly also where it is compiled.
        batch: what it will be given.
    """
    places = Places(model)
    mode = OriginMode(places, Sources(model, batch))
    with preserved(model), torch.enable_grad(), _eager(), places.kept(), mode:
        yield Step(model, batch, mode)


def uncompiled(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile``'s wrapper, or the model itself."""
    inner: Any = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, nn.Module) else model


def _eager() -> contextlib.AbstractContextManager[Any]:
    stance: contextlib.AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance
