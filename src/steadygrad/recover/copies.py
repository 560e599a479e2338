"""Nests of tensors (a state dict, an optimizer's state), copied to host memory and back.

All copies of one call are started together: one fused call in host memory, copies into page-locked memory
that nobody waits for from an accelerator. Of a tensor that is cut over several ranks each keeps its own part.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steadygrad.measure import is_sharded, own_part
from steadygrad.ranks import like


@dataclass(slots=True, eq=False)
class Kept:
    """One tensor's copy in host memory.

    Attributes:
        host: the values; of a tensor that is cut, this rank's.
        device: where the original lives.
        cut: a tensor cut in the same way; None where it is whole.
    """

    host: Tensor
    device: torch.device
    cut: Tensor | None = None


class Copies:
    """Gathers what is to be copied, and copies it in one go."""

    def __init__(self) -> None:
        self._from: list[Tensor] = []
        self._to: list[Tensor] = []

    def keep(self, live: Any, old: Any) -> Any:
        """A nest like ``live`` with a `Kept` for each tensor; those of ``old`` are used again where they fit.

        The values are there after `start`, or from an accelerator when its stream has come that far.
        """
        if isinstance(live, Tensor):
            return self._keep_tensor(live, old)
        if isinstance(live, Mapping):
            before = old if isinstance(old, Mapping) else {}
            return {key: self.keep(value, before.get(key)) for key, value in live.items()}
        if isinstance(live, (list, tuple)):
            same = isinstance(old, (list, tuple)) and len(old) == len(live)
            pairs = zip(live, old if same else [None] * len(live), strict=True)
            kept = [self.keep(value, before) for value, before in pairs]
            return kept if isinstance(live, list) else tuple(kept)
        return copy.deepcopy(live)

    def start(self) -> None:
        """Copy."""
        copy_all(self._to, self._from)
        self._from, self._to = [], []

    def _keep_tensor(self, live: Tensor, old: Any) -> Kept:
        values = own_part(live.detach())
        fits = (
            isinstance(old, Kept)
            and old.host.shape == values.shape
            and old.host.dtype == values.dtype
            and old.host.stride() == values.stride()
        )
        pinned = values.device.type == "cuda"
        host = old.host if fits else torch.empty_like(values, device="cpu", pin_memory=pinned)
        self._from.append(values)
        self._to.append(host)
        return Kept(host, values.device, live.detach() if is_sharded(live) else None)


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each source into its target; from and to one device in one fused call."""
    pairs: dict[tuple[object, ...], tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        # One dtype each: the fused call falls back to a slow one where they are mixed.
        to, come = pairs.setdefault((source.device, target.device, source.dtype), ([], []))
        to.append(target)
        come.append(source)
    with torch.no_grad():
        for to, come in pairs.values():
            torch._foreach_copy_(to, come, non_blocking=True)


def put_back(live: Any, kept: Any) -> Any:
    """What ``kept`` holds, as it was; in the live tensors themselves where they fit."""
    if isinstance(kept, Kept):
        part = own_part(live.detach()) if isinstance(live, Tensor) else None
        if part is not None and part.shape == kept.host.shape and part.dtype == kept.host.dtype:
            part.copy_(kept.host)
            return live
        fresh = kept.host.to(kept.device, copy=True)
        return fresh if kept.cut is None else like(fresh, kept.cut)
    if isinstance(kept, dict):
        now = live if isinstance(live, Mapping) else {}
        return {key: put_back(now.get(key), value) for key, value in kept.items()}
    if isinstance(kept, (list, tuple)):
        # Lists of an optimizer (LBFGS) share tensors with its other entries: these come back as new ones.
        values = [put_back(None, value) for value in kept]
        return values if isinstance(kept, list) else tuple(values)
    return copy.deepcopy(kept)


def nbytes(kept: Any) -> int:
    """Bytes of all copies in a nest."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(kept))


def tensors_of(nest: Any) -> list[Tensor]:
    """Every tensor in a nest of dicts and lists, copies included, in order; of one that is cut this rank's part."""
    if isinstance(nest, Kept):
        return [nest.host]
    if isinstance(nest, Tensor):
        return [own_part(nest.detach())] if is_sharded(nest) else [nest]
    if isinstance(nest, Mapping):
        return [tensor for value in nest.values() for tensor in tensors_of(value)]
    if isinstance(nest, (list, tuple)):
        return [tensor for value in nest for tensor in tensors_of(value)]
    return []
