"""`zero_residual_`: residual blocks that begin as the identity."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.calling import call_model, random_states, restore_random_states, tensors_in
from steadygrad.errors import UsageError
from steadygrad.initialise.arguments import require_module
from steadygrad.preserve import preserved


def zero_residual_(model: nn.Module, batch: object) -> list[str]:
    """Set the last layer of every residual branch to 0, so that the network begins as its own shortcut.

    Each branch adds to the stream, so with depth the stream's variance grows, and the gradient with it. A branch
    whose last layer is 0 adds nothing at first and learns from the first step on (its last layer has a
    gradient; the layers before it follow). In a ResNet that layer is the last BatchNorm, in a transformer
    the output projection of attention and of the feed-forward part.

    Where the branches end is found by trying, not by names: a layer belongs to a branch if the output still
    follows the input once that layer is 0, and to the same branch as those whose gradient it takes away.
    Of two branches that run side by side (a convolution in the shortcut) the longer one is zeroed.

    Args:
        model: changed in place; modes, buffers, gradients and random states are as before.
        batch: what the model takes, two examples or more.

    Returns:
        Names of the modules that were set to 0, weight and bias; empty where there is no residual branch.

    Raises:
        UsageError: ``model`` is no module, or has no layer with a weight that this batch reaches.

    Example:
        >>> import torch, steadygrad as sg
        >>> from torch import nn
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
        ...     def forward(self, x):
        ...         return x + self.last(torch.relu(self.first(x)))
        >>> model = nn.Sequential(nn.Linear(4, 8), Block(), Block(), nn.Linear(8, 1))
        >>> sg.initialise.zero_residual_(model, torch.randn(16, 4))
        ['1.last', '2.last']

    References:
        Goyal et al., Accurate, large minibatch SGD, 2017, arXiv:1706.02677, sec. 5.1; Zhang, Dauphin and Ma,
        Fixup initialization: residual learning without normalization, 2019, arXiv:1901.09321, sec. 3.2.
    """
    require_module("zero_residual_", model)
    with preserved(model), torch.enable_grad():
        model.train()
        search = _Search(model, batch)
        if not search.alive():
            raise UsageError(
                f"zero_residual_(model, batch): no layer of {type(model).__name__} with a weight has a gradient for "
                "this batch. Is everything frozen, or the batch all zeros?"
            )
        ends = search.branch_ends()
        chosen = [name for name in search.layers if name in ends]
    for name in chosen:
        _zero_(search.layers[name])
    return chosen


_INPUT = "the input"


class _Search:
    """Zeroes one layer at a time and looks at who still has a gradient."""

    def __init__(self, model: nn.Module, batch: object) -> None:
        self._model = model
        self._batch = _with_grad(batch)
        self._inputs = [one for one in tensors_in(self._batch) if one.requires_grad]
        self._random = random_states()
        self.layers = {
            name: one
            for name, one in model.named_modules()
            if any("weight" in key for key, _ in one.named_parameters(recurse=False))
        }

    def alive(self, without: tuple[str, ...] = ()) -> frozenset[str]:
        """Layers whose weight has a gradient while those of ``without`` are 0."""
        kept = [(name, [p.detach().clone() for p in _own(self.layers[name])]) for name in without]
        for name in without:
            _zero_(self.layers[name])
        try:
            restore_random_states(self._random)
            outputs = [one for one in tensors_in(call_model(self._model, self._batch)) if one.requires_grad]
            weights = {name: _own(one)[0] for name, one in self.layers.items() if _own(one)[0].requires_grad}
            if not outputs or not weights:
                return frozenset()
            # Of random sign: a sum over a softmax or a norm would have no gradient at all.
            loss = sum((one * torch.randn_like(one)).sum() for one in outputs)
            wanted = [*weights.values(), *self._inputs]
            grads = torch.autograd.grad(loss, wanted, allow_unused=True)  # type: ignore[arg-type]
        finally:
            for name, values in kept:
                with torch.no_grad():
                    for param, value in zip(_own(self.layers[name]), values, strict=True):
                        param.copy_(value)
        names = [*weights, *[_INPUT] * len(self._inputs)]
        return frozenset(name for name, grad in zip(names, grads, strict=True) if _moves(grad))

    def branch_ends(self) -> set[str]:
        """The last layers of the branches, the longer of two that run side by side."""
        everyone = self.alive()
        cut: dict[str, frozenset[str]] = {}
        for name in everyone - {_INPUT}:
            left = self.alive((name,))
            if self._passes(everyone, left):
                cut[name] = everyone - left - {name}
        order, chosen = self._order(), list[str]()
        for branch in sorted(_joined(cut), key=len, reverse=True):
            last = max(branch, key=lambda name: order[name])
            if self._passes(everyone, self.alive((*chosen, last))):
                chosen.append(last)
        return set(chosen)

    def _order(self) -> dict[str, tuple[int, int]]:
        """Place of each layer in the forward pass; one that isn't called itself stands with its parent."""
        called: dict[str, int] = {}
        with contextlib.ExitStack() as stack:
            for name, module in self._model.named_modules():
                hook = partial(_note, called, name)
                stack.callback(module.register_forward_pre_hook(hook).remove)
            call_model(self._model, self._batch)
        places = {}
        for index, name in enumerate(self.layers):
            known = name if name in called else name.rpartition(".")[0]
            places[name] = (called.get(known, 0), index)
        return places

    def _passes(self, everyone: frozenset[str], left: frozenset[str]) -> bool:
        """Whether the signal still comes through: from the input, or from the embedding of one without numbers."""
        return (_INPUT if self._inputs else next(name for name in self.layers if name in everyone)) in left


def _joined(cut: dict[str, frozenset[str]]) -> list[set[str]]:
    """Layers that take each other's gradient away, together."""
    found: list[set[str]] = []
    for name, others in cut.items():
        group = {name, *(other for other in others if other in cut)}
        for one in [one for one in found if one & group]:
            found.remove(one)
            group |= one
        found.append(group)
    return found


def _note(called: dict[str, int], name: str, module: nn.Module, args: object) -> None:
    del module, args
    called.setdefault(name, len(called))


def _with_grad(batch: Any) -> Any:
    """The same batch, its floating tensors as leaves that want a gradient."""
    if isinstance(batch, Tensor):
        return batch.detach().clone().requires_grad_() if batch.is_floating_point() else batch
    if isinstance(batch, Mapping):
        return {key: _with_grad(one) for key, one in batch.items()}
    return [_with_grad(one) for one in batch] if isinstance(batch, (tuple, list)) else batch


def _own(layer: nn.Module) -> list[nn.Parameter]:
    """The layer's own parameters, a weight first."""
    named = sorted(layer.named_parameters(recurse=False), key=lambda one: "weight" not in one[0])
    return [param for _, param in named]


def _zero_(layer: nn.Module) -> None:
    with torch.no_grad():
        for param in _own(layer):
            param.zero_()


def _moves(grad: Tensor | None) -> bool:
    return grad is not None and bool((grad != 0).any())
