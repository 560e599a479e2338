"""Parameters that are kept twice: an optimizer steps float32 copies of a model in half precision.

Loss scaling by hand does so: gradients are copied to the float32 tensors, those are stepped, and the result is
copied back. Seen from here, the model looks like one that is updated by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from steadygrad.launch.arm.by_hand import HandSeat
from steadygrad.launch.arm.tree import Gathered

_HALVES = (torch.float16, torch.bfloat16)


def copied_from(params: Sequence[Tensor], hands: Iterable[HandSeat]) -> HandSeat | None:
    """The loop by hand whose model these are the float32 copies of, one by one and in order."""
    for hand in hands:
        model = hand.params()
        if len(model) == len(params) and all(map(_is_copy, params, model)):
            return hand
    return None


def named_after(model: nn.Module, params: Sequence[Tensor]) -> nn.Module:
    """Stands for the copies, each by the name that its original has in the model."""
    whole = Gathered()
    names = [name for name, param in model.named_parameters() if param.requires_grad]
    for name, param in zip(names, params, strict=True):
        # register_parameter takes no names with dots.
        whole._parameters[name] = param  # type: ignore[assignment]  # noqa: SLF001
    whole.__class__ = type(type(model).__name__, (Gathered,), {})
    return whole


def _is_copy(param: Tensor, original: Tensor) -> bool:
    return param.dtype == torch.float32 and original.dtype in _HALVES and param.shape == original.shape
