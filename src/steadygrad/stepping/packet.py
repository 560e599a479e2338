"""One step's device numbers as a single 1-d tensor, and back: one copy a step, not one a number.

Layout: total norm, clip coefficient, norms ``[P]``, then parameter norms ``[P]`` and update norms
``[P]`` on the steps that have them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steadygrad.records import FloatArray

_HEAD = 2


def pack(total_norm: Tensor, clip_coef: Tensor | None, norms: Tensor, extras: list[Tensor | None]) -> Tensor:
    """Join the numbers of one step on their device, in float64 where it has that."""
    wide = norms.dtype
    coef = torch.ones_like(total_norm) if clip_coef is None else clip_coef.to(total_norm.dtype)
    parts = [torch.stack([total_norm, coef]).to(wide), norms]
    parts += [extra.to(norms.device, wide) for extra in extras if extra is not None]
    return torch.cat(parts)


def unpack(
    numbers: FloatArray, tensors: int, has_extras: tuple[bool, ...]
) -> tuple[float, float, FloatArray, list[FloatArray | None]]:
    """Total norm, clip coefficient, norms ``[P]`` and the extras, None where they were left out."""
    norms = numbers[_HEAD : _HEAD + tensors]
    start = _HEAD + tensors
    extras: list[FloatArray | None] = []
    for present in has_extras:
        extras.append(numbers[start : start + tensors] if present else None)
        start += tensors if present else 0
    return float(numbers[0]), float(numbers[1]), norms, extras
