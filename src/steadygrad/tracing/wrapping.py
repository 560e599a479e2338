"""What `torch.compile` puts around a model, as soon as it is there.

A hook on the model is traced into the compiled code, where it must do nothing; one on the module around it is heard.
torch tells of each module that becomes part of another, and compiling makes a model part of a new one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils.hooks import RemovableHandle

_INNER = "_orig_mod"
"""What a module made by `torch.compile` calls the one inside."""


def on_compiled(model: nn.Module, heard: Callable[[nn.Module], None]) -> RemovableHandle:
    """Call back with each module that `torch.compile` puts around a model from now on.

    Args:
        model: held weakly.
        heard: a method; its object is held weakly too.

    Returns:
        Takes the hook off.
    """
    inside, tell = weakref.ref(model), weakref.WeakMethod(heard)

    def registered(module: nn.Module, name: str, part: nn.Module | None) -> None:
        if name == _INNER and part is inside() and part is not None and (told := tell()) is not None:
            told(module)

    return register_module_module_registration_hook(registered)
