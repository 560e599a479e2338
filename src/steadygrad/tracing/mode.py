"""Every operation of one replayed step, looked at for what it made non-finite.

A dispatch mode sees below autograd: in the forward pass the node of the operation already has its
sequence number, so module and line can be kept by that number and found again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from steadygrad.origin import Phase
from steadygrad.tracing.events import MOVING, PLANTING, SCALING, Event, Ledger
from steadygrad.tracing.finiteness import facts, has_nan, has_numbers, is_finite
from steadygrad.tracing.lines import Line, user_line
from steadygrad.tracing.places import Places
from steadygrad.tracing.sources import Sources

# What these return was never written to.
_UNWRITTEN = frozenset(("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize"))


class _Call(NamedTuple):
    """Where a forward operation was called."""

    module: str | None
    module_type: str
    line: Line


class OriginMode(TorchDispatchMode):
    """Writes down every operation that returns something non-finite.

    Args:
        places: which module is running.
        sources: who owns the tensors that were there before.

    Attributes:
        ledger: what was found.
        phase: forward or loss; the backward pass is recognised by itself.
    """

    def __init__(self, places: Places, sources: Sources) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger = Ledger()
        self.phase: Phase = "forward"
        self._places = places
        self._sources = sources
        self._calls: dict[int, _Call] = {}
        self._newest = -1
        self._unwritten: set[int] = set()
        self._count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation and look at what it returns."""
        kwargs = kwargs or {}
        node: Any = torch._C._current_autograd_node()
        # Gradients are off in a backward pass, except where it runs a forward again (checkpointing).
        if node is None or torch.is_grad_enabled():
            node = None
            self._remember()
        given = _copied(args, kwargs) if func._schema.is_mutable else (args, kwargs)
        result = func(*args, **kwargs)
        name = _short(func)
        for output in filter(has_numbers, tree_leaves(result)):
            if name in _UNWRITTEN:
                self._unwritten.add(output.untyped_storage()._cdata)
            else:
                self._look(name, given, (args, kwargs), output, node)
        return result

    def _remember(self) -> None:
        number = torch._C._autograd._get_sequence_nr() - 1
        if number == self._newest:  # it has made no node: the newest belongs to the operation before
            return
        self._newest = number
        self._calls[number] = _Call(self._places.module, self._places.module_type, user_line())

    def _look(self, name: str, given: Any, seen: Any, output: Tensor, node: Any) -> None:
        """Look at one output.

        Args:
            name: of the operation.
            given: arguments as they were before.
            seen: the arguments themselves, which tell who they are.
            output: what came out.
            node: autograd node in a backward pass, None elsewhere.
        """
        if is_finite(output):
            if _is_whole(output):
                self.ledger.clear(output)
            return
        values, owners = _tensors(given), _tensors(seen)
        parents = self._parents(values, owners)
        # A view of something non-finite is no news.
        if self.ledger.of(output) in parents and _shares(output, owners):
            return
        call = self._call(node)
        broken = has_nan(output)
        event = Event(
            order=self._next(),
            phase="backward" if node is not None else self.phase,
            kind="nan" if broken else "inf",
            operation=f"aten.{name}" if node is None else node.name(),
            module=call.module,
            module_type=call.module_type,
            line=call.line,
            inputs=facts(values),
            output=output,
            parents=parents,
            planted=not broken and _is_planted(name, seen, parents, backward=node is not None),
        )
        self.ledger.add(event)

    def _parents(self, values: list[Tensor], owners: list[Tensor]) -> tuple[Event, ...]:
        found: list[Event] = []
        for value, owner in zip(values, owners, strict=True):
            if not has_numbers(value) or is_finite(value):
                continue
            event = self.ledger.of(owner)
            if event is None and owner.untyped_storage()._cdata in self._unwritten:
                continue
            if event is None:
                event = self._sources.event_of(owner, value, self._next())
                self.ledger.add(event)
            found.append(event)
        return tuple(dict.fromkeys(found))

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _call(self, node: Any) -> _Call:
        if node is None:
            return _Call(self._places.module, self._places.module_type, user_line())
        return self._calls.get(node._sequence_nr(), _Call(None, "", Line()))


def _is_planted(name: str, seen: Any, parents: tuple[Event, ...], *, backward: bool) -> bool:
    """Whether these infinities were put there on purpose, now or before."""
    if not parents:
        return name in PLANTING and _has_infinite_scalar(seen)
    return all(one.planted for one in parents) and name in (MOVING if backward else MOVING | SCALING)


def _tensors(arguments: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]


def _is_whole(tensor: Tensor) -> bool:
    """Whether the tensor covers all of its storage."""
    return tensor.numel() * tensor.element_size() >= tensor.untyped_storage().nbytes()


def _shares(output: Tensor, owners: list[Tensor]) -> bool:
    """Whether the output is a view of an input, or an input changed in place."""
    storage = output.untyped_storage()._cdata
    return any(has_numbers(one) and one.untyped_storage()._cdata == storage for one in owners)


def _short(func: Any) -> str:
    """``log_`` and ``_log`` and ``log.out`` are all ``log``."""
    return str(func._schema.name).rpartition("::")[2].strip("_")


def _copied(args: Any, kwargs: Any) -> Any:
    return tree_map(lambda value: value.clone() if has_numbers(value) else value, (args, kwargs))


def _has_infinite_scalar(given: Any) -> bool:
    return any(
        isinstance(leaf, float) and leaf in (float("inf"), float("-inf")) for leaf in tree_leaves(given)
    )
