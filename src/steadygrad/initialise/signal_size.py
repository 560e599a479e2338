"""Orthogonal matrices, and layers scaled on a batch."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.calling import call_model
from steadygrad.errors import UsageError
from steadygrad.initialise.arguments import require_gain, require_module
from steadygrad.preserve import preserved

__all__ = ["lsuv_", "orthogonal_"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LEAST_SPREAD = 1e-6


def orthogonal_(model: nn.Module, gain: float = 1.0) -> None:
    """Make every weight matrix orthogonal and every bias 0, in place.

    An orthogonal matrix lengthens no vector and shortens none, forward or backward, so a deep linear network keeps
    its gradient whatever its depth.

    Args:
        model: its linear and convolutional layers that aren't frozen are changed, recurrent weights too. A weight
            that is computed from others (weight norm) stays.
        gain: what each matrix multiplies by. 1 suits tanh and no activation; 1.41 suits ReLU, which loses half.

    Raises:
        UsageError: ``model`` is no module, ``gain`` is not a positive number, or there is no layer to change.

    Example:
        >>> layer = torch.nn.Linear(4, 4)
        >>> orthogonal_(layer)
        >>> bool(torch.allclose(layer.weight @ layer.weight.T, torch.eye(4), atol=1e-6))
        True

    Source: Saxe et al., Exact solutions to the nonlinear dynamics of learning, 2014, arXiv:1312.6120, section 3.
    """
    require_module("orthogonal_", model)
    require_gain("orthogonal_", gain)
    changed = [_orthogonal(module, gain) for module in model.modules()]
    if not any(changed):
        raise UsageError(
            "orthogonal_(model): found no linear, convolutional or recurrent layer that isn't frozen."
        )


def lsuv_(model: nn.Module, batch: object) -> None:
    """Give every layer an output of mean 0 and spread 1 on a batch, in place.

    Each linear or convolutional layer is made orthogonal, and then scaled and shifted by what it returns in one
    forward pass, in the order in which the layers are called. It needs to know nothing about the activations in
    between: a deep sigmoid network, which no fixed formula starts well, keeps its signal too.

    Args:
        model: layers that are called and aren't frozen are changed. Buffers and random states are not. A weight that
            layers share suits the first that is called; one that belongs to an embedding too, or is computed from
            others (weight norm), stays.
        batch: what the model takes; thirty rows or more.

    Raises:
        UsageError: ``model`` is no module, or no layer was called that isn't frozen.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Sigmoid(), torch.nn.Linear(8, 8))
        >>> batch = torch.randn(64, 8)
        >>> lsuv_(model, batch)
        >>> round(model(batch).std().item(), 1)
        1.0

    Source: Mishkin and Matas, All you need is a good init, 2016, arXiv:1511.06422, section 2; the shift is that of
    Salimans and Kingma, Weight normalization, 2016, arXiv:1602.07868, section 3. Differs from the first paper: one
    pass instead of up to ten for each layer, since each layer's output is put right before the next one sees it.
    """
    require_module("lsuv_", model)
    done: set[Tensor] = set()

    def start(module: nn.Module, args: Any) -> None:
        del args
        if module.weight not in done:
            _orthogonal(module, 1.0)

    def settle(module: nn.Module, args: Any, output: Any) -> Any:
        del args
        weight: Any = module.weight
        first = weight not in done
        done.add(weight)
        return settled(module, output) if first and isinstance(output, Tensor) else None

    with preserved(model), torch.no_grad(), contextlib.ExitStack() as stack:
        for module in free_layers(model):
            stack.callback(module.register_forward_pre_hook(start).remove)
            stack.callback(module.register_forward_hook(settle).remove)
        call_model(model, batch)
    if not done:
        raise UsageError(
            "lsuv_(model, batch): no linear or convolutional layer was called that isn't frozen."
        )


def free_layers(model: nn.Module) -> list[nn.Module]:
    """Layers whose weight is theirs to change: not frozen, not computed, not an embedding's too."""
    others = [module for module in model.modules() if not isinstance(module, _LAYERS)]
    taken = {param for module in others for param in module.parameters(recurse=False)}
    layers = [module for module in model.modules() if isinstance(module, _LAYERS)]
    return [
        one
        for one in layers
        if any(weight.requires_grad for weight in _own_weight(one) if weight not in taken)
    ]


def _own_weight(layer: nn.Module) -> list[nn.Parameter]:
    """The weight; nothing where it is computed from others, as by weight norm."""
    return [param for name, param in layer.named_parameters(recurse=False) if name == "weight"]


def _orthogonal(module: nn.Module, gain: float) -> bool:
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        matrices = [param for name, param in module.named_parameters(recurse=False) if "weight" in name]
    elif isinstance(module, _LAYERS):
        matrices = _own_weight(module)
    else:
        return False
    free = [matrix for matrix in matrices if matrix.requires_grad]
    with torch.no_grad():
        for matrix in free:
            # QR knows neither half precision nor a block of gates.
            for block in matrix.chunk(_gates(module, matrix)):
                block.copy_(nn.init.orthogonal_(torch.empty(block.shape), gain).to(block))
        bias = getattr(module, "bias", None)
        if free and isinstance(bias, Tensor):
            bias.zero_()
    return bool(free)


def _gates(module: nn.Module, matrix: Tensor) -> int:
    """How many square blocks a recurrent matrix holds, one for each gate."""
    recurrent = isinstance(module, (nn.RNNBase, nn.RNNCellBase))
    return matrix.shape[0] // matrix.shape[1] if recurrent and matrix.shape[0] % matrix.shape[1] == 0 else 1


def settled(module: nn.Module, output: Tensor) -> Tensor | None:
    """The output with mean 0 for each unit and spread 1 over all; the layer is changed to return it."""
    unit = output.dim() - 1 if isinstance(module, nn.Linear) else 1
    others = [dim for dim in range(output.dim()) if dim != unit]
    wide = output.float()
    bias = getattr(module, "bias", None)
    mean = wide.mean(others, keepdim=True) if isinstance(bias, Tensor) else torch.zeros(())
    spread = float((wide - mean).square().mean().sqrt())
    if not _LEAST_SPREAD < spread < math.inf:
        return None
    weight: Any = module.weight
    weight.div_(spread)
    if isinstance(bias, Tensor):
        bias.sub_(mean.flatten().to(bias)).div_(spread)
    return ((wide - mean) / spread).to(output)
