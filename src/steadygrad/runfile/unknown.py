"""The error for a name that a run doesn't have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from steadygrad.errors import UsageError


class UnknownName(UsageError, KeyError):
    """A run has no tensor or scalar of this name."""

    __str__ = Exception.__str__


def unknown(what: str, name: str, names: Iterable[str], path: str) -> UnknownName:
    """Make the error, with the names that come close.

    Args:
        what: ``tensor`` or ``scalar``.
        name: what was asked for.
        names: what there is.
        path: the run file.

    Returns:
        The error, to be raised.
    """
    close = difflib.get_close_matches(str(name), list(names), n=3)
    hint = (
        f" Did you mean {' or '.join(map(repr, close))}?" if close else " See info.tensors and scalar_names."
    )
    return UnknownName(f"no {what} named {name!r} in {path}.{hint}")
