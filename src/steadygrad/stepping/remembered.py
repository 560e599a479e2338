"""All that an optimizer holds, copied, and put back when a step has run that should not have been.

An optimizer that somebody has written may keep its numbers anywhere: in ``state``, in its groups (Lookahead's counter),
in attributes, in an optimizer that it holds, in an array, a generator or what a function closes over. So everything is
walked through that can be reached from it over dicts, lists, functions and optimizers. Of an object of another kind the
numbers are put back; one that holds more of those itself is refused.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from numbers import Number
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.calling import random_states, restore_random_states
from steadygrad.measure import is_sharded
from steadygrad.stepping.free_memory import free_bytes

_COPIES = 2
"""Times the copy that must fit the free memory: the step itself needs some, too."""

_PLAIN = (Number, str, bytes, type(None), torch.dtype, torch.device)

_CONTAINERS = (dict, list, set, deque, tuple, frozenset)

_CALLABLE = (FunctionType, MethodType, partial)

_CHANGING = (
    Tensor,
    Optimizer,
    np.ndarray,
    torch.Generator,
    np.random.Generator,
    np.random.RandomState,
    random.Random,
)
"""What remembers more than a number, wherever it is held."""

_LEFT_ALONE = (nn.Module, type, ModuleType)
"""Modules and their buffers aren't the optimizer's."""


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
        self._arrays: dict[int, NDArray[Any]] = {}
        self._containers: dict[int, tuple[Any, Any]] = {}
        self._attributes: dict[int, tuple[Optimizer, dict[str, Any]]] = {}
        self._others: dict[int, tuple[Any, Callable[[], object]]] = {}
        self._walk_optimizer(optimizer)
        in_arrays = sum(array.nbytes for array in self._arrays.values())
        _check_room([*self._tensors.values(), *gradients], in_arrays)
        self._copies = [(one, one.detach().clone()) for one in self._tensors.values()]
        self._array_copies = [(one, one.copy()) for one in self._arrays.values()]
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
        for array, numbers in self._array_copies:
            if array.shape != numbers.shape:
                array.resize(numbers.shape, refcheck=False)
            array[...] = numbers
        for _, put_back in self._others.values():
            put_back()
        restore_random_states(self._random)

    def _walk_optimizer(self, optimizer: Optimizer) -> None:
        if id(optimizer) in self._attributes:
            return
        held = {name: one for name, one in vars(optimizer).items() if _is_data(name, one)}
        self._attributes[id(optimizer)] = optimizer, held
        # Of these two a wrapper may hand on another one's, by a property.
        for one in (optimizer.state, optimizer.param_groups):
            self._walk(one)
        for name, one in vars(optimizer).items():
            if not name.endswith("_hooks"):
                self._walk(one)

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
        elif not isinstance(value, (*_PLAIN, *_LEFT_ALONE)):
            self._walk_object(value)

    def _walk_all(self, values: Iterable[Any]) -> None:
        for one in values:
            self._walk(one)

    def _walk_object(self, value: Any) -> None:
        if id(value) in self._others or id(value) in self._arrays:
            return
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            if value.flags.writeable:
                self._arrays[id(value)] = value
        elif isinstance(value, torch.Generator):
            self._others[id(value)] = value, partial(value.set_state, value.get_state())
        else:
            fields = _fields(value)
            if isinstance(value, _CHANGING) or any(map(_holds_more, fields.values())):
                raise NotCopied(type(value).__name__)
            numbers = {name: one for name, one in fields.items() if isinstance(one, _PLAIN)}
            self._others[id(value)] = value, partial(_set_fields, value, numbers)
            if isinstance(value, _CALLABLE):
                self._walk_all(self._inside(value))

    def _inside(self, called: Any) -> Iterable[Any]:
        """What a function has at hand; what it closes over is bound again to what it is bound to now."""
        if isinstance(called, MethodType):
            return [called.__self__, called.__func__]
        if isinstance(called, partial):
            return [called.func, called.args, called.keywords]
        inside = [called.__defaults__, called.__kwdefaults__]
        for cell in called.__closure__ or ():
            # One is empty until what it is to hold is bound.
            held = [] if _is_empty(cell) else [cell.cell_contents]
            self._others[id(cell)] = cell, partial(_bind, cell, held)
            inside += held
        return inside


def _is_empty(cell: CellType) -> bool:
    return (
        cell == CellType()
    )  # one that holds something never equals it, whatever that something thinks of ``==``


def _bind(cell: CellType, held: list[Any]) -> None:
    if held:
        cell.cell_contents = held[0]
    elif not _is_empty(cell):
        del cell.cell_contents


def _is_known(value: Any) -> bool:
    return isinstance(value, (*_PLAIN, *_CONTAINERS, Tensor, np.ndarray, torch.Generator))


def _is_data(name: str, value: Any) -> bool:
    """Whether an attribute is a step's own memory; hooks may come and go while it runs."""
    return _is_known(value) and not name.endswith("_hooks")


def _fields(value: Any) -> dict[str, Any]:
    """What an object has of its own: in its ``__dict__``, and in slots."""
    slots = chain.from_iterable(_slots(kind) for kind in type(value).__mro__)
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**found, **getattr(value, "__dict__", {})}


def _slots(kind: type) -> list[str]:
    named = vars(kind).get("__slots__", ())
    names = {named} if isinstance(named, str) else {*named} - {"__dict__", "__weakref__"}
    private = f"_{kind.__name__.lstrip('_')}"
    return [private + name if name.startswith("__") and not name.endswith("__") else name for name in names]


def _set_fields(value: Any, before: dict[str, Any]) -> None:
    held = getattr(value, "__dict__", {})
    for name, one in before.items():
        if name in held:
            held[name] = one
        elif getattr(value, name, None) is not one:
            object.__setattr__(value, name, one)


def _holds_more(value: Any, depth: int = 3) -> bool:
    if isinstance(value, (dict, list, set, deque, tuple)) and depth:
        inside = value.values() if isinstance(value, dict) else value
        return any(_holds_more(one, depth - 1) for one in inside)
    return isinstance(value, _CHANGING)


def _check_room(tensors: Iterable[Tensor], bytes_in_arrays: int) -> None:
    wanted: dict[torch.device, float] = {torch.device("cpu"): float(bytes_in_arrays)}
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
