"""What a trainer's own clip will leave of a gradient, as `Monitor.clip_` wants to be told it."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


def norm_bound(max_norm: Any, norm_type: Any = 2.0) -> float | None:
    """Total L2 norm after a clip to ``max_norm``, at most; None where the clip says nothing about it."""
    if isinstance(max_norm, Tensor) and max_norm.device.type != "cpu":
        return None  # reading it would wait for the device
    try:
        bound, power = float(max_norm), float(norm_type)
    except (TypeError, ValueError):  # no clip, or one whose own error is the better one
        return None
    return bound if power == 2.0 and 0.0 < bound < math.inf else None


def covers(ids: set[int], optimizer: Optimizer) -> bool:
    """Whether these are all parameters of an optimizer that have a gradient, by ``id``."""
    held = (param for group in optimizer.param_groups for param in group["params"])
    return all(id(param) in ids or param.grad is None for param in held)
