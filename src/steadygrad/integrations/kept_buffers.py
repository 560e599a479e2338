"""Running statistics that a poisoned batch has ruined go back to what they were before it.

BatchNorm takes a batch into its running mean and variance during the forward pass, before there is any
gradient to look at, and an average never forgets a NaN: training goes on (it uses batch statistics), but
every validation and every checkpoint from there on is ruined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class KeptBuffers:
    """Floating-point buffers of a model, with a copy from the last time they were all finite.

    Nothing is read from an accelerator: whether to put them back is decided there.

    Args:
        model: its buffers are looked at; those that aren't finite to begin with (the -inf of a mask)
            are left alone.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> kept = KeptBuffers(norm)
        >>> _ = norm(torch.tensor([[1.0, 2.0], [float("nan"), 4.0]]))
        >>> kept.settle()
        >>> norm.running_mean.tolist()
        [0.0, 0.0]
    """

    def __init__(self, model: nn.Module) -> None:
        groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for buffer in model.buffers():
            if buffer.is_floating_point() and buffer.numel() and bool(torch.isfinite(buffer).all()):
                groups.setdefault((buffer.device, buffer.dtype), []).append(buffer)
        self._groups = [_Group(group) for group in groups.values()]
        self._kept = [group.values() for group in self._groups]

    def settle(self) -> None:
        """Keep the buffers as they are, or put all of them back if one is no longer finite."""
        for index, group in enumerate(self._groups):
            now = group.values()
            if now.device.type != "cpu":
                self._kept[index] = torch.where(torch.isfinite(now).all(), now, self._kept[index])
                group.fill(self._kept[index])
            # A sum takes a third of the time, and is finite only where every number is.
            elif math.isfinite(now.sum().item()) or bool(torch.isfinite(now).all()):
                self._kept[index] = now
            else:
                group.fill(self._kept[index])


class _Group:
    """Buffers of one kind, and each as a row of numbers: made once, and again where one has moved."""

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        self._buffers = buffers
        self._places: list[int] = []
        self._rows: list[Tensor] = []

    def values(self) -> Tensor:
        """All their numbers, copied."""
        places = [buffer.data_ptr() for buffer in self._buffers]
        if places != self._places:
            # A row of one that isn't laid out as a row is a copy, made anew each time.
            self._places = places if all(map(Tensor.is_contiguous, self._buffers)) else []
            self._rows = [buffer.detach().reshape(-1) for buffer in self._buffers]
        return torch.cat(self._rows)

    @torch.no_grad()
    def fill(self, values: Tensor) -> None:
        """Put such numbers back."""
        parts = torch.split(values, [buffer.numel() for buffer in self._buffers])
        shaped = [part.view_as(buffer) for part, buffer in zip(parts, self._buffers, strict=True)]
        torch._foreach_copy_(list(self._buffers), shaped)
