"""What a training holds, as values that ``torch.load(weights_only=True)`` reads, and back.

Tensors, numbers, texts and the plain containers stay what they are. A few others come back as something
that behaves alike; what can't, is left out and says so. Nothing that is read back runs code of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from steadygrad.measure import is_sharded

_KIND = "$kind"
_AS_THEY_ARE = (bool, int, float, str, torch.dtype, torch.device, torch.Size)


def plain(value: Any) -> Any:
    """A copy in host memory that can be saved and read back.

    Example:
        >>> rebuilt(plain({"x": np.ones(2), "how": print}))
        {'x': array([1., 1.]), 'how': <left out: builtin_function_or_method>}
    """
    if isinstance(value, Tensor):
        return _left_out(value) if is_sharded(value) else _copied(value)
    if value is None or type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return _numpy(value)
    if isinstance(value, PackedSequence):
        return {_KIND: "packed", "value": [plain(one) for one in value]}
    if isinstance(value, Mapping):
        return {_key(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        entries = [plain(entry) for entry in value]
        return tuple(entries) if isinstance(value, tuple) else entries
    if is_dataclass(value) and not isinstance(value, type):
        entry = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return {_KIND: "namespace", "value": entry}
    return _left_out(value)


def rebuilt(value: Any, device: torch.device | None = None) -> Any:
    """What `plain` was given, or something that behaves alike.

    Args:
        value: what was read.
        device: where tensors go.
    """
    if isinstance(value, Tensor):
        return value if device is None else value.to(device)
    if isinstance(value, dict) and _KIND in value:
        return _special(value[_KIND], value["value"], device)
    if isinstance(value, dict):
        return {key: rebuilt(entry, device) for key, entry in value.items()}
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        entries = [rebuilt(entry, device) for entry in value]
        return tuple(entries) if isinstance(value, tuple) else entries
    return value


def lacks(value: Any) -> list[str]:
    """Types of what was left out of a value that `plain` made."""
    if isinstance(value, dict):
        if value.get(_KIND) == "left out":
            return [value["value"]]
        return [name for entry in value.values() for name in lacks(entry)]
    if isinstance(value, (list, tuple)):
        return [name for entry in value for name in lacks(entry)]
    return []


class LeftOut:
    """Stands for a value that couldn't be kept.

    Args:
        kind: its type.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        """What it was."""
        return f"<left out: {self.kind}>"


def _copied(tensor: Tensor) -> Tensor:
    # A class of somebody's own would have to be imported to be read.
    return tensor.detach().as_subclass(Tensor).to("cpu", copy=True)


def _special(kind: str, value: Any, device: torch.device | None) -> Any:
    if kind == "numpy":
        return value.numpy()
    if kind == "packed":
        return PackedSequence(*(rebuilt(one, device) for one in value))
    if kind == "namespace":
        return SimpleNamespace(**rebuilt(value, device))
    return LeftOut(value)


def _numpy(value: Any) -> Any:
    try:
        return {_KIND: "numpy", "value": torch.from_numpy(np.array(value))}
    except TypeError:  # texts, objects, dates
        return _left_out(value)


def _key(key: object) -> Any:
    return key if type(key) in {bool, int, float, str} else str(key)


def _left_out(value: object) -> dict[str, str]:
    return {_KIND: "left out", "value": type(value).__name__}
