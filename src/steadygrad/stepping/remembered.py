"""All that an optimizer holds, copied, and put back when a step has run that should not have been.

An optimizer that somebody has written may keep its numbers anywhere: in ``state``, in its groups (Lookahead's counter),
in attributes, in an optimizer that it holds. So everything is walked through that can be reached from it over dicts,
lists and optimizers; what is no tensor, number or container there is left alone, unless it holds tensors itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import chain
from numbers import Number
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.calling import random_states, restore_random_states
from steadygrad.measure import is_sharded
from steadygrad.stepping.free_memory import free_bytes

_COPIES = 2
"""Times the copy that must fit the free memory: the step itself needs some, too."""

_PLAIN = (Number, str, bytes, type(None), torch.dtype, torch.device)


class NotCopied(Exception):
    """Something in the optimizer can't be copied, or there is no room for it."""


class Remembered:
    """Weights, state, groups and attributes of an optimizer as they are now, and torch's random states.

    Args:
        optimizer: its own parts, and those of optimizers that it holds.
        gradients: what the caller is about to copy as well; counted where room is asked for.

    Raises:
        NotCopied: it holds what can't be copied, or twice the copy doesn't fit the memory that is free.
    """

    def __init__(self, optimizer: Optimizer, gradients: Iterable[Tensor] = ()) -> None:
        self._tensors: dict[int, Tensor] = {}
        self._containers: dict[int, tuple[Any, Any]] = {}
        self._attributes: dict[int, tuple[Optimizer, dict[str, Any]]] = {}
        self._walk_optimizer(optimizer)
        _check_room([*self._tensors.values(), *gradients])
        self._copies = [(one, one.detach().clone()) for one in self._tensors.values()]
        self._random = random_states()

    @torch.no_grad()
    def put_back(self) -> None:
        """Make all of it what it was; the tensors and containers stay the same objects."""
        for optimizer, before in self._attributes.values():
            held = vars(optimizer)
            for name in [one for one in held if one not in before and _is_data(one, held[one])]:
                del held[name]
            held.update(before)
        for container, items in self._containers.values():
            _refill(container, items)
        for tensor, copy in self._copies:
            _write(tensor, copy)
        restore_random_states(self._random)

    def _walk_optimizer(self, optimizer: Optimizer) -> None:
        if id(optimizer) in self._attributes:
            return
        held = {name: one for name, one in vars(optimizer).items() if _is_data(name, one)}
        self._attributes[id(optimizer)] = optimizer, held
        # Of these two a wrapper may hand on another one's, by a property.
        for one in (optimizer.state, optimizer.param_groups, *held.values()):
            self._walk(one)
        for one in vars(optimizer).values():
            if isinstance(one, Optimizer):
                self._walk_optimizer(one)
            elif not _is_known(one):
                _check_opaque(one)

    def _walk(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self._tensors[id(value)] = value
        elif isinstance(value, Optimizer):
            self._walk_optimizer(value)
        elif isinstance(value, (tuple, frozenset)):
            self._walk_all(value)
        elif isinstance(value, (dict, list, set, deque)):
            if id(value) not in self._containers:
                self._containers[id(value)] = value, _items(value)
                self._walk_all(value.values() if isinstance(value, dict) else value)
        elif not isinstance(value, _PLAIN):
            _check_opaque(value)

    def _walk_all(self, values: Iterable[Any]) -> None:
        for one in values:
            self._walk(one)


def _is_known(value: Any) -> bool:
    return isinstance(value, (*_PLAIN, Tensor, dict, list, set, deque, tuple, frozenset))


def _is_data(name: str, value: Any) -> bool:
    """Whether an attribute is a step's own memory; hooks may come and go while it runs."""
    return _is_known(value) and not name.endswith("_hooks")


def _check_opaque(value: Any) -> None:
    """Raise if this object may carry a memory of a step; modules and their buffers aren't the optimizer's."""
    if isinstance(value, nn.Module):
        return
    if any(map(_holds_tensors, getattr(value, "__dict__", {}).values())):
        raise NotCopied(type(value).__name__)


def _holds_tensors(value: Any, depth: int = 3) -> bool:
    if isinstance(value, (dict, list, set, deque, tuple)) and depth:
        inside = value.values() if isinstance(value, dict) else value
        return any(_holds_tensors(one, depth - 1) for one in inside)
    return isinstance(value, (Tensor, Optimizer))


def _check_room(tensors: Iterable[Tensor]) -> None:
    wanted: dict[torch.device, float] = {}
    for whole in tensors:
        one = whole.detach().to_local() if is_sharded(whole) else whole  # type: ignore[attr-defined]
        elements = one._nnz() if one.is_sparse else one.numel()  # noqa: SLF001 - its public name needs it coalesced
        wanted[one.device] = wanted.get(one.device, 0.0) + elements * one.element_size()
    for device, needed in wanted.items():
        if device.type != "meta" and _COPIES * needed > free_bytes(device):
            raise NotCopied(f"{_COPIES * needed:.0f} bytes")


def _items(container: Any) -> Any:
    return dict(container) if isinstance(container, dict) else list(container)


def _refill(container: Any, items: Any) -> None:
    """Put these items back; a container in which nothing came or went isn't touched."""
    now = _items(container)
    # By identity: tensors, which may be keys too, don't answer ``==`` with one truth.
    if len(now) == len(items) and all(a is b for a, b in zip(_flat(now), _flat(items), strict=True)):
        return
    container.clear()
    (container.extend if isinstance(container, (list, deque)) else container.update)(items)


def _flat(items: Any) -> Iterable[Any]:
    return chain.from_iterable(items.items()) if isinstance(items, dict) else items


def _write(tensor: Tensor, copy: Tensor) -> None:
    try:
        tensor.copy_(copy)
    except RuntimeError:  # resized meanwhile, or one of inference mode
        tensor.data = copy
