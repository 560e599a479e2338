"""What happened to non-finite numbers in one step, and which operation is to blame.

An operation that returns something non-finite is an event. Its parents are the events that its inputs
came from. One without parents made the number out of finite ones: a producer. The blame goes to the
first producer among the ancestors of what ended up broken, so whatever never got there is left in peace.

Infinities are not always faults: a mask is filled with -Inf on purpose, and softmax makes zeros of it.
Such an event is *planted*. It stays innocent while operations that only arrange numbers hand it on; the
operation that makes a NaN of it, or computes with it, is the producer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from steadygrad.origin import InputFacts, Phase
from steadygrad.tracing.lines import Line

MOVING = frozenset(
    (
        "add",
        "amax",
        "amin",
        "baddbmm",
        "cat",
        "clamp",
        "clamp_min",
        "clone",
        "constant_pad_nd",
        "copy",
        "expand",
        "flip",
        "gather",
        "index",
        "index_put",
        "index_select",
        "lift_fresh",
        "log_softmax",
        "logaddexp",
        "logcumsumexp",
        "logsumexp",
        "masked_fill",
        "masked_scatter",
        "max",
        "max_pool2d_with_indices",
        "maximum",
        "min",
        "minimum",
        "neg",
        "pad",
        "permute",
        "repeat",
        "reshape",
        "roll",
        "scatter",
        "select",
        "slice",
        "split",
        "squeeze",
        "stack",
        "sub",
        "t",
        "to_copy",
        "transpose",
        "tril",
        "triu",
        "unbind",
        "unsqueeze",
        "view",
        "where",
    )
)
"""Operations that hand infinities on, or work on logarithms, where -Inf is the logarithm of 0."""

SCALING = frozenset(("mul", "div"))
"""Scaling a masked score leaves it masked. In the backward pass it makes an Inf of a gradient."""

PLANTING = frozenset(
    [
        "full",
        "full_like",
        "new_full",
        "fill",
        "masked_fill",
        "scatter",
        "scalar_tensor",
        "lift_fresh",
        "index_fill",
        "where",
    ]
)
"""Operations to which somebody gives an infinity on purpose."""


MIXING = frozenset(
    ("addmm", "mm", "bmm", "convolution", "native_layer_norm", "native_group_norm", "native_batch_norm")
)
"""Operations that no mask is given to: a -Inf of the batch that enters one was no mask, but the logarithm of a 0."""


@dataclass(eq=False, slots=True)
class Event:
    """One operation that returned something non-finite.

    Attributes:
        order: its place in the step.
        phase: in which part of the step.
        kind: NaN where there is one, else Inf.
        operation: ``aten.log``, or the autograd node.
        module: qualified name of the module, None outside.
        module_type: its class.
        line: the user's line.
        inputs: what it was given.
        output: what it returned.
        parents: events its inputs came from.
        planted: whether these infinities were put there on purpose.
        note: what else is known.
    """

    order: int
    phase: Phase
    kind: Literal["nan", "inf"]
    operation: str
    module: str | None
    module_type: str
    line: Line
    inputs: tuple[InputFacts, ...]
    output: Tensor
    parents: tuple[Event, ...] = ()
    planted: bool = False
    note: str = ""

    @property
    def is_producer(self) -> bool:
        """Whether it made the number out of innocent ones."""
        return not self.planted and all(parent.planted for parent in self.parents)


@dataclass(slots=True)
class Ledger:
    """All events of one step, by the storage that holds what they returned.

    Attributes:
        events: in order.
        forgiving: the loss was finite, so what a forward pass makes (a recomputed one too) is legal.
    """

    events: list[Event] = field(default_factory=list)
    forgiving: bool = False
    _of: dict[int, Event] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take note of an event; its output is kept alive, so that its storage isn't used again."""
        event.planted |= self.forgiving and event.phase != "backward"
        self.events.append(event)
        self._of[_storage(event.output)] = event

    def of(self, tensor: Tensor) -> Event | None:
        """The newest event that wrote to this tensor's storage."""
        return self._of.get(_storage(tensor))

    def clear(self, tensor: Tensor) -> None:
        """The storage was overwritten with finite numbers."""
        self._of.pop(_storage(tensor), None)

    def forgive(self) -> None:
        """The loss is finite: no infinity of the forward pass got there, so all were legal."""
        self.forgiving = True
        for event in self.events:
            event.planted = True


def _storage(tensor: Tensor) -> int:
    # Views and what they view share it, and nothing else does.
    identity: int = tensor.untyped_storage()._cdata
    return identity


def ancestors(event: Event) -> set[Event]:
    """The event and all it came from."""
    found = {event}
    waiting = [event]
    while waiting:
        for parent in waiting.pop().parents:
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found


def to_blame(broken: Event) -> tuple[Event, tuple[Event, ...]]:
    """The first producer that a broken number goes back to, and the events that it then passed through."""
    chain = sorted(ancestors(broken), key=lambda one: one.order)
    first = next((one for one in chain if one.is_producer), broken)
    if first.operation.removeprefix("aten.") in MIXING:
        brought = (one for one in ancestors(first) if one.operation == "input")
        first = min(brought, key=lambda one: one.order, default=first)
    reached = {first}
    later = [one for one in chain if not reached.isdisjoint(one.parents) and not reached.add(one)]  # type: ignore[func-returns-value]
    return first, tuple(later)
