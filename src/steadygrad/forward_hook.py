"""A hook on somebody's module that only listens: what is made of the module carries nothing of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from steadygrad.capture import is_capturing
from steadygrad.errors import UsageError


class NotScriptable(UsageError, AttributeError):
    """A model was compiled to TorchScript while hooks of ours are on it.

    Also an AttributeError: whoever only asks whether a hook has a name is told that it has none.
    """


class ForwardHook:
    """Hands a module's calls on; silent where they are traced, compiled or captured, which must not change.

    A copy of the module gets a hook that does nothing. A pickle of it gets one that does nothing and
    is made of the standard library alone: a model that is saved whole during a training is loaded
    where steadygrad isn't installed.

    Args:
        hear: called as torch calls a hook of the kind that this is registered as.
    """

    def __init__(self, hear: Callable[..., Any]) -> None:
        self._hear = hear

    @property
    def __name__(self) -> str:
        """What `torch.jit.script` asks each hook for, before it fails to compile it.

        Raises:
            NotScriptable: always.
        """
        raise NotScriptable(
            "torch.jit.script(model): this model is under a watch or guard (or was copied while it was), and the "
            "hooks of those can't be compiled to TorchScript. Close it first, or script a new model that has "
            "loaded this one's state_dict()."
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> ForwardHook:
        return ForwardHook(_nothing)

    def __reduce__(self) -> tuple[Any, ...]:
        return (getattr, (nullcontext(), "__exit__"))

    def __call__(self, *args: Any) -> Any:
        """Called by the module."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return None
        if is_capturing():
            return None
        return self._hear(*args)


def _nothing(*args: object) -> None:
    """The hook of a copy."""


@contextmanager
def unheard(model: nn.Module) -> Iterator[None]:
    """Take our hooks off a model and its parts, and put them back where they were."""
    kept = [(hooks, list(hooks.items())) for module in model.modules() for hooks in _hooks(module)]
    for hooks, items in kept:
        for key in [key for key, hook in items if _is_ours(hook)]:
            del hooks[key]
    try:
        yield
    finally:
        for hooks, items in kept:
            hooks.clear()
            hooks.update(items)


def _hooks(module: nn.Module) -> tuple[dict[int, Any], ...]:
    return module._forward_pre_hooks, module._forward_hooks  # noqa: SLF001 - torch has no public way


def _is_ours(hook: object) -> bool:
    # What it has become in a model that was pickled and loaded again.
    return isinstance(hook, ForwardHook) or isinstance(getattr(hook, "__self__", None), nullcontext)
