"""Who owns a tensor that was non-finite before any operation of the step touched it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from steadygrad.calling import tensors_in
from steadygrad.origin import Phase
from steadygrad.tracing.events import Event
from steadygrad.tracing.finiteness import facts, has_nan, only_minus_infinity
from steadygrad.tracing.lines import Line


class Sources:
    """Parameters, buffers and the batch, by the storage they live in.

    Args:
        model: its parameters and buffers.
        batch: what the model is given.
    """

    def __init__(self, model: nn.Module, batch: object) -> None:
        self._owners: dict[int, tuple[Phase, str, str]] = {}
        for name, tensor in _arguments(batch):
            self._own(tensor, "input", "input", name)
        for name, buffer in model.named_buffers():
            self._own(buffer, "forward", "buffer", name)
        for name, param in model.named_parameters():
            self._own(param, "optimizer", "parameter", name)

    def event_of(self, tensor: Tensor, value: Tensor, order: int) -> Event:
        """The event that stands for a tensor that was non-finite from the start.

        Args:
            tensor: the tensor, which tells its owner.
            value: what it held.
            order: place in the step.
        """
        key = tensor.untyped_storage()._cdata
        phase, operation, name = self._owners.get(key, ("input", "constant", ""))
        # -Inf alone is what masks are made of; in weights it is a fault all the same.
        planted = operation != "parameter" and only_minus_infinity(value)
        module = name.rpartition(".")[0] if operation in ("parameter", "buffer") else None
        return Event(
            order=order,
            phase=phase,
            kind="nan" if has_nan(value) else "inf",
            operation=operation,
            module=module,
            module_type="",
            line=Line(),
            inputs=facts([value]),
            output=tensor,
            planted=planted,
            note=_note(operation, name, value),
        )

    def _own(self, tensor: Tensor, phase: Phase, operation: str, name: str) -> None:
        if not tensor.is_meta and not is_lazy(tensor):
            self._owners[tensor.untyped_storage()._cdata] = (phase, operation, name)


def _arguments(batch: object) -> list[tuple[str, Tensor]]:
    if isinstance(batch, Mapping):
        return [(str(key), tensor) for key, value in batch.items() for tensor in tensors_in(value)]
    found = tensors_in(batch)
    return [("batch" if len(found) == 1 else f"batch[{i}]", tensor) for i, tensor in enumerate(found)]


def _note(operation: str, name: str, value: Tensor) -> str:
    if operation == "input":
        return f"{name} was non-finite before the model saw it."
    if operation == "constant":
        shape = tuple(value.shape)
        return f"A tensor of shape {shape} that is neither the batch's nor the model's (targets?) was non-finite."
    return f"{operation} {name} was non-finite before this step: it was ruined in an earlier one."
