"""Somebody has loaded a checkpoint: copies of what was there before are copies of another training."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from steadygrad.forward_hook import ForwardHook


class LoadWatch:
    """Notices ``load_state_dict`` of a model or of its optimizers.

    Args:
        model: of a part of it that is loaded alone nothing is noticed.
        optimizers: its optimizers.
        on_load: method called when it happens; its object is held weakly, for the model holds this one.

    Attributes:
        happened: whether it has happened since `take` was called last.
    """

    def __init__(
        self, model: nn.Module, optimizers: Sequence[Optimizer], on_load: Callable[[], None] | None = None
    ) -> None:
        self.happened = False
        self._on_load = None if on_load is None else weakref.WeakMethod(on_load)
        self._handles: list[RemovableHandle] = []
        if not isinstance(model, torch.jit.ScriptModule):  # which takes no hooks
            self._handles.append(model.register_load_state_dict_post_hook(ForwardHook(self._note)))  # type: ignore[no-untyped-call]
        self._handles += [one.register_load_state_dict_post_hook(self._note) for one in optimizers]

    def take(self) -> bool:
        """Whether it has happened since this was asked last."""
        happened, self.happened = self.happened, False
        return happened

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _note(self, *_: object) -> None:
        self.happened = True
        on_load = None if self._on_load is None else self._on_load()
        if on_load is not None:
            on_load()
