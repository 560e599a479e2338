"""Processor time that a training spends in steadygrad, hook by hook.

Each door through which somebody else's code comes into ours is given a clock of the thread's own, and so is each
through which ours calls theirs: what lies between is what steadygrad does. It needs no second training to stand
beside, so chance has no part in it; what it can't see is time lost elsewhere, as where a hook has emptied a cache.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from typing import Any, NamedTuple

from torch import nn

Function = Callable[..., Any]

DOORS = {
    "steadygrad.stepping.hooks": {"StepHooks": ("_before", "_after")},
    "steadygrad.stepping.track": {"Track": ("_gradients_ready", "_stepped", "_abandoned")},
    "steadygrad.stepping.zero_grad": {"_Incoming": ("_add",)},
    "steadygrad.forward_hook": {"ForwardHook": ("__call__",)},
    "steadygrad.signals": {"_Look": ("timed",)},
    "steadygrad.monitor": {"Monitor": ("log", "clip_", "close")},
}
"""Methods by class by module: they are replaced on the class, before anything is attached."""

DOORS_OF = {
    "lightning": {
        "steadygrad.integrations.lightning": {
            "SteadygradCallback": ("on_train_start", "on_before_backward", "on_before_optimizer_step"),
        }
    },
    "transformers": {"steadygrad.integrations.transformers": {"SteadygradCallback": ("on_train_begin",)}},
    "accelerate": {},
    "timm": {"steadygrad.integrations.bounds": {"Handed": ("is_whole",)}},
    "ultralytics": {
        "steadygrad.integrations.ultralytics": {
            "Attachment": ("on_train_start", "on_train_epoch_start", "on_train_batch_end", "on_train_epoch_end"),
        }
    },
}  # fmt: skip
"""The same for what one trainer alone brings; its methods that an integration replaces are found by themselves."""


class Mark(NamedTuple):
    """Processor time at the beginning of a step, in seconds since the attribution was made."""

    process_s: float
    ours_s: float
    writer_s: float


class Spent(NamedTuple):
    """Processor time of some steps, in seconds: the training's own, ours in its thread, that of the writer's thread."""

    theirs_s: float
    ours_s: float
    writer_s: float


class Attribution:
    """Where the processor time of the thread that trains goes, and of the one that writes the run file.

    Attributes:
        by_door_s: seconds by door; doors within doors count for the outermost.
        marks: one for each step.
    """

    def __init__(self) -> None:
        self.by_door_s: Counter[str] = Counter()
        self.marks: list[Mark] = []
        self._inside = threading.local()

    def mark(self) -> None:
        """A step begins."""
        writer_s = sum(map(_thread_s, threading.enumerate()))
        self.marks.append(Mark(time.process_time(), self.by_door_s.total(), writer_s))

    def since(self, step: int) -> Spent:
        """What was spent from the beginning of a step to that of the last."""
        first, last = self.marks[step], self.marks[-1]
        whole, ours, writer = (after - before for before, after in zip(first, last, strict=True))
        return Spent(whole - ours - writer, ours, writer)

    @contextmanager
    def at_the_doors(self, trainer: str) -> Iterator[None]:
        """Have the clocks in place for a while."""
        from steadygrad.integrations.borrowed import Borrowed  # noqa: PLC0415 - a trainer may be absent elsewhere

        before = [
            (owner, name, getattr(owner, name))
            for module, classes in {**DOORS, **DOORS_OF[trainer.partition("_")[0]]}.items()
            for kind, names in classes.items()
            for owner in (getattr(import_module(module), kind),)
            for name in names
        ]
        wrap, parameters = Borrowed.wrap, nn.Module.parameters
        for owner, name, method in before:
            setattr(owner, name, self._ours(f"{owner.__name__}.{name}", method))
        Borrowed.wrap = lambda borrowed, owner, name, make: wrap(  # type: ignore[method-assign]
            borrowed, owner, name, lambda original: self._ours(name, make(self._theirs(original)))
        )
        # A clip that is handed a generator walks through it in any case, and where we did so for it, it needn't.
        nn.Module.parameters = lambda *args, **kwargs: iter(list(parameters(*args, **kwargs)))  # type: ignore[method-assign]
        try:
            yield
        finally:
            Borrowed.wrap, nn.Module.parameters = wrap, parameters  # type: ignore[method-assign]
            for owner, name, method in before:
                setattr(owner, name, method)

    def _ours(self, door: str, function: Function) -> Function:
        @wraps(function)
        def entered(*args: Any, **kwargs: Any) -> Any:
            inside = self._inside
            if getattr(inside, "door", None) is not None:
                return function(*args, **kwargs)
            inside.door, began = door, time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.by_door_s[door] += time.thread_time() - began
                inside.door = None

        return entered

    def _theirs(self, function: Function) -> Function:
        @wraps(function)
        def left(*args: Any, **kwargs: Any) -> Any:
            inside = self._inside
            door = getattr(inside, "door", None)
            inside.door, began = None, time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                if door is not None:
                    self.by_door_s[door] -= time.thread_time() - began
                inside.door = door

        return left


def _thread_s(thread: threading.Thread) -> float:
    """Processor time of a thread of steadygrad's."""
    if thread.ident is None or not thread.name.startswith("steadygrad"):
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
