"""`looks_linear_`: rectified layers that begin as a linear network."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.calling import call_model, tensors_in
from steadygrad.errors import UsageError
from steadygrad.initialise.arguments import require_module
from steadygrad.initialise.between import Made, keeps_halves, source
from steadygrad.initialise.delta_orthogonal import centre
from steadygrad.initialise.signal_size import free_layers, settled
from steadygrad.preserve import preserved


def looks_linear_(model: nn.Module, batch: object) -> list[str]:
    """Give rectified layers mirrored weights, so that the network begins as a linear one, and scale each on a batch.

    Behind a ReLU every other direction is lost, and in a deep plain network the gradients of two inputs soon have nothing
    to do with each other. Here the second half of a layer's units begins as the first with the opposite sign, and the next
    layer subtracts one from the other: what one half loses the other still has. With orthogonal matrices the signal and the
    gradient keep their length and their direction through any depth, and the two halves part as they learn. Convolutions
    between two activations begin as one matrix at the centre of the kernel, as in `delta_orthogonal_`.

    ``f(z) - f(-z) = z`` for ReLU, GELU, SiLU and softplus, and ``(1 + slope) z`` for leaky ReLU.

    Args:
        model: its linear and convolutional layers that aren't frozen are changed, as by `lsuv_`; those are mirrored that have
            one such activation between them and else at most views, average pools over places, dropout, and before the
            activation `BatchNorm`. Through a max-pool, a permutation or another norm nothing begins linear.
        batch: what the model takes; thirty rows or more.

    Returns:
        Names of the layers whose units are mirrored.

    Raises:
        UsageError: ``model`` is no module, or no two of its layers have just that between them.

    Example:
        >>> import torch, steadygrad as sg
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> x = torch.randn(32, 4)
        >>> sg.initialise.looks_linear_(model, x)
        ['0', '2']
        >>> torch.allclose(model(x[:1] + x[1:2]) + model(0 * x[:1]), model(x[:1]) + model(x[1:2]), atol=1e-5)
        True

    Source: Balduzzi et al., The shattered gradients problem: if resnets are the answer, then what is the question?, 2017,
        arXiv:1702.08591, section 4. Differs from the paper: each layer is scaled and shifted on the batch, as by `lsuv_`.
    """
    require_module("looks_linear_", model)
    with preserved(model):
        chain = _chain(model, batch)
        if not chain.behind:
            raise UsageError(
                f"looks_linear_(model, batch): no two linear or convolutional layers of {type(model).__name__} that aren't "
                "frozen have one ReLU, GELU, SiLU, softplus or leaky ReLU between them and nothing else that isn't linear."
            )
        _fill(model, batch, chain)
    names = {module: name for name, module in model.named_modules()}
    return [names[one] for one in chain.layers if one in chain.ahead]


@dataclass(slots=True)
class _Chain:
    """Layers that follow each other.

    Attributes:
        layers: those whose weights are free, in the order in which they are called.
        behind: of each whose input is mirrored, the layer that made it.
        ahead: those whose output is mirrored.
    """

    layers: list[nn.Module] = field(default_factory=list)
    behind: dict[nn.Module, nn.Module] = field(default_factory=dict)
    ahead: set[nn.Module] = field(default_factory=set)


def _chain(model: nn.Module, batch: object) -> _Chain:
    """Which layer's output an activation takes to which layer, read off the graph of one forward pass."""
    chain = _Chain()
    made: dict[Any, Made] = {}

    def enter(module: nn.Module, args: Any) -> None:
        if module in chain.layers:
            return
        chain.layers.append(module)
        given = next(iter(tensors_in(args)), None)
        found = None if given is None else source(given.grad_fn, made)
        if given is not None and found is not None and keeps_halves(found, module, tuple(given.shape)):
            chain.behind[module] = found.module
            chain.ahead.add(found.module)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        del args
        if isinstance(output, Tensor) and output.grad_fn is not None:
            made.setdefault(output.grad_fn, Made(module, tuple(output.shape)))

    with torch.enable_grad(), contextlib.ExitStack() as stack:
        for module in free_layers(model):
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        call_model(model, batch)
    return chain


def _fill(model: nn.Module, batch: object, chain: _Chain) -> None:
    done: set[nn.Module] = set()

    def start(module: nn.Module, args: Any) -> None:
        del args
        if module not in done:
            _mirror_(module, taken=module in chain.behind, given=module in chain.ahead)

    def settle(module: nn.Module, args: Any, output: Any) -> Any:
        del args
        first = module not in done
        done.add(module)
        return settled(module, output) if first and isinstance(output, Tensor) else None

    with torch.no_grad(), contextlib.ExitStack() as stack:
        for module in chain.layers:
            stack.callback(module.register_forward_pre_hook(start).remove)
            stack.callback(module.register_forward_hook(settle).remove)
        call_model(model, batch)


def _mirror_(module: nn.Module, *, taken: bool, given: bool) -> None:
    """Fill a weight; units without a partner are left to themselves.

    Args:
        module: a layer.
        taken: whether its input is mirrored.
        given: whether its output is to be.
    """
    weight: Any = module.weight
    rows, columns = weight.shape[:2]
    inner, outer = columns // 2 if taken else columns, rows // 2 if given else rows
    core = _core(weight, outer, inner, centred=taken)
    with torch.no_grad():
        block = torch.cat([core, -core], 1) if taken else core
        block = torch.cat([block, -block], 0) if given else block
        weight.zero_()
        weight[: len(block), : block.shape[1]] = block.to(weight)
        if len(block) < rows:
            rest = nn.init.orthogonal_(torch.empty(rows - len(block), weight[0].numel()))
            weight[len(block) :] = rest.view(-1, *weight.shape[1:]).to(weight)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def _core(weight: Tensor, rows: int, columns: int, *, centred: bool) -> Tensor:
    """An orthogonal matrix, as a kernel where the layer has one."""
    space = weight.shape[2:]
    # QR knows no half precision.
    if not (centred and space):
        flat = nn.init.orthogonal_(torch.empty(rows, columns * space.numel() if space else columns))
        return flat.view(rows, columns, *space)
    kernel = torch.zeros(rows, columns, *space)
    centre(kernel).copy_(nn.init.orthogonal_(torch.empty(rows, columns)))
    return kernel
