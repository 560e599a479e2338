"""One forward and one backward pass, and everything the checks want to know about them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.calling import LossFn, call_model, loss_of, tensors_in
from steadygrad.gains import GainProbe, Gains
from steadygrad.preserve import preserved

# Modules whose input is what the layer before fired: there dead and saturated units show, whether the
# activation was a module or a function.
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)
MOST_KEPT = 65536
"""Elements kept of each layer's input: shares over units need no more."""


@dataclass(slots=True)
class Look:
    """What one training step showed.

    Attributes:
        model: the model.
        batch: what it was given.
        loss_fn: as the user gave it.
        optimizer: None where none was given.
        output: what the model returned, detached.
        output_node: name of the autograd node that made it; "" without one.
        loss: its value.
        connected: whether anything leads from the loss to a tensor that requires a gradient.
        grads: gradient of each parameter by name; None where none came.
        fired: input of each weighted layer but those that the batch itself feeds, by name.
        called: names of the modules whose forward ran.
        gains: growth of the gradient.
    """

    model: nn.Module
    batch: object
    loss_fn: LossFn | None
    optimizer: Optimizer | None
    output: Any = None
    output_node: str = ""
    loss: float = float("nan")
    connected: bool = False
    grads: dict[str, Tensor | None] = field(default_factory=dict)
    fired: dict[str, Tensor] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    gains: Gains = field(default_factory=Gains)

    @property
    def output_tensor(self) -> Tensor | None:
        """The output where it is one floating tensor, as most losses take it."""
        tensors = [tensor for tensor in tensors_in(self.output) if tensor.is_floating_point()]
        return tensors[0] if isinstance(self.output, Tensor) and tensors else None

    def loss_at(self, output: Tensor) -> Tensor:
        """What the loss would be for another output."""
        return loss_of(output, self.batch, self.loss_fn)


def look(model: nn.Module, batch: object, loss_fn: LossFn | None, optimizer: Optimizer | None) -> Look:
    """Take one step's look; the model is left as it was."""
    seen = Look(model, batch, loss_fn, optimizer)
    probe = GainProbe(model)
    with preserved(model), torch.enable_grad(), _listening(model, batch, seen), probe.attached():
        output = call_model(model, batch)
        loss = loss_of(output, batch, loss_fn)
        seen.output, seen.output_node = _detached(output), _node_of(output)
        seen.loss, seen.connected = float(loss.detach()), loss.requires_grad
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        seen.grads = {
            name: None if param.grad is None else param.grad.detach().clone()
            for name, param in model.named_parameters()
        }
    seen.gains = probe.gains()
    return seen


@contextlib.contextmanager
def _listening(model: nn.Module, batch: object, seen: Look) -> Iterator[None]:
    given = {tensor.untyped_storage()._cdata for tensor in tensors_in(batch)}  # noqa: SLF001 - identity

    def listen(module: nn.Module, args: tuple[Any, ...], name: str) -> None:
        seen.called.add(name)
        if isinstance(module, _WEIGHTED) and args and isinstance(args[0], Tensor) and name not in seen.fired:
            of_batch = args[0].untyped_storage()._cdata in given  # noqa: SLF001
            if not of_batch and args[0].is_floating_point():
                seen.fired[name] = _units(module, args[0].detach())

    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            handle = module.register_forward_pre_hook(
                lambda module, args, name=name: listen(module, args, name)
            )
            stack.callback(handle.remove)
        yield


def _units(module: nn.Module, values: Tensor) -> Tensor:
    """Input of a layer as ``[samples, units]``; channels are a convolution's units."""
    channels_last = (
        values if isinstance(module, nn.Linear) else values.movedim(1 if values.dim() > 2 else 0, -1)
    )
    flat = channels_last.reshape(-1, channels_last.shape[-1])
    return flat[: max(2, MOST_KEPT // max(1, flat.shape[1]))].float().clone()


def _detached(output: Any) -> Any:
    return output.detach() if isinstance(output, Tensor) else output


def _node_of(output: Any) -> str:
    tensors = tensors_in(output)
    return tensors[0].grad_fn.name() if tensors and tensors[0].grad_fn is not None else ""
