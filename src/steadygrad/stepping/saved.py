"""States that an earlier version has saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def completed(saved: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """A saved state, with what it lacks as it is where nothing has been learnt.

    A version that keeps one number more goes on from the state of the one before.

    Args:
        saved: what was saved.
        fresh: the state of a policy that has learnt nothing.

    Example:
        >>> completed({"tally": {"seen": 9}}, {"tally": {"seen": 0, "scaled": 0}, "shares": None})
        {'tally': {'seen': 9, 'scaled': 0}, 'shares': None}
    """
    whole = {**fresh, **saved}
    for key, value in saved.items():
        if isinstance(value, Mapping) and isinstance(fresh.get(key), Mapping):
            whole[key] = completed(value, fresh[key])
    return whole
