"""What can go wrong in a training run, as data: no code decides anything here.

Detectors say *that* something happened and bring the numbers; the catalog says what it means, what
may be behind it, what to change and where to read on.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from steadygrad.catalog import course, data, gradients, nonfinite, scaling, signals, through_time, wiring
from steadygrad.catalog.entry import GUARD_CODE, Entry
from steadygrad.errors import UsageError

__all__ = ["CATALOG", "GUARD_CODE", "Entry", "entry"]

CATALOG: Mapping[str, Entry] = MappingProxyType(
    {
        item.kind: item
        for room in (wiring, data, gradients, through_time, nonfinite, course, signals, scaling)
        for item in room.ENTRIES
    }
)
"""Every entry by its kind."""


def entry(kind: str) -> Entry:
    """Look up one entry.

    Args:
        kind: the ``kind`` of a finding, such as ``exploding_gradient``.

    Returns:
        The entry.

    Raises:
        UsageError: there is no such kind.

    Example:
        >>> entry("vanishing_gradient").title
        'Vanishing gradient'
    """
    try:
        return CATALOG[kind]
    except KeyError:
        near = get_close_matches(kind, CATALOG, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known kinds: {', '.join(sorted(CATALOG))}."
        raise UsageError(f"entry() needs the kind of a finding; got {kind!r}. {hint}") from None
