"""JSON that keeps NaN and Inf, and that any parser accepts.

JSON has no word for NaN or Inf, and SQLite stores NaN as NULL. A non-finite number is therefore
written as ``{"$float": "nan"}`` (``inf``, ``-inf``); a key that begins with ``$`` gets one more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_TAG = "$float"


def dumps(value: object) -> str:
    """Write plain data as strict JSON; tuples become lists, numpy numbers plain ones.

    Args:
        value: numbers, strings, None, booleans, and mappings and sequences of these.

    Returns:
        ASCII text without ``NaN`` or ``Infinity``.

    Raises:
        TypeError: for anything else.

    Example:
        >>> dumps({"growth": float("inf")})
        '{"growth":{"$float":"inf"}}'
    """
    return json.dumps(_plain(value), allow_nan=False, separators=(",", ":"))


def loads(text: str | bytes) -> Any:
    """Read what `dumps` wrote.

    Args:
        text: the JSON.

    Returns:
        The data, with NaN and Inf back in place.

    Raises:
        ValueError: for text that is not JSON.

    Example:
        >>> loads('{"growth":{"$float":"inf"}}')
        {'growth': inf}
    """
    return json.loads(text, object_hook=_restore)


def _plain(value: object) -> object:
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {_TAG: repr(float(value))}
    if isinstance(value, Mapping):
        return {_escape(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    raise TypeError(f"can't write {type(value).__name__} as JSON: {value!r}")


def _escape(key: str) -> str:
    return f"${key}" if key.startswith("$") else key


def _restore(pairs: dict[str, Any]) -> Any:
    if pairs.keys() == {_TAG}:
        return float(pairs[_TAG])
    return {key[1:] if key.startswith("$$") else key: item for key, item in pairs.items()}
