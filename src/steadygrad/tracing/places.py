"""Which module is running: the user's qualified names, kept by hooks while a step is replayed.

Forward hooks only: full backward hooks wrap every module's input and so break in-place activations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn


class Places:
    """The stack of modules whose forward is under way.

    Args:
        model: its modules are known by their qualified names, a shared one by its first.
    """

    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in reversed(list(model.named_modules()))}
        self._running: list[nn.Module] = []

    @property
    def module(self) -> str | None:
        """Qualified name of the innermost module under way; None outside of the model."""
        return self.names[self._running[-1]] if self._running else None

    @property
    def module_type(self) -> str:
        """Its class."""
        return type(self._running[-1]).__name__ if self._running else ""

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the stack inside; every hook is gone afterwards."""
        handles = []
        try:
            for module in self.names:
                handles.append(module.register_forward_pre_hook(self._enter, prepend=True))
                handles.append(module.register_forward_hook(self._leave, always_call=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        del args
        self._running.append(module)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        del args, output
        # A forward that raised may have left inner modules behind.
        while self._running and self._running.pop() is not module:
            pass
