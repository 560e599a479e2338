"""What every start is called with, asked about before anything is changed."""

from __future__ import annotations

import math

from torch import nn

from steadygrad.errors import UsageError


def require_module(call: str, model: object) -> None:
    """Raise a UsageError unless it is a module."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"{call}(model): expected a torch.nn.Module, got {type(model).__name__}.")


def require_gain(call: str, gain: object) -> None:
    """Raise a UsageError unless it is a positive number."""
    if isinstance(gain, bool) or not isinstance(gain, (int, float)) or not 0 < gain < math.inf:
        raise UsageError(f"{call}(gain): expected a positive number, got {gain!r}.")
