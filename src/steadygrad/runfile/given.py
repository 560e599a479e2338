"""A path as somebody has given it."""

from __future__ import annotations

import os
from pathlib import Path

from steadygrad.errors import UsageError


def as_path(call: str, given: object, what: str, example: str) -> Path:
    """The path, ``~`` being the home folder; anything else, and an empty one, is told at the call.

    Args:
        call: the user's call with what was given, for the message.
        given: what was given.
        what: what it should be the path of.
        example: what could have been written.

    Raises:
        UsageError: it is no path.

    Example:
        >>> as_path("open_run(3)", 3, "a run file", "open_run('runs/first.steady')")
        Traceback (most recent call last):
        steadygrad.errors.UsageError: open_run(3): expected the path of a run file such as open_run('runs/first.steady').
    """
    if not isinstance(given, (str, os.PathLike)) or not (path := os.fspath(given)) or isinstance(path, bytes):
        raise UsageError(f"{call}: expected the path of {what} such as {example}.")
    if "\0" in path:
        raise UsageError(
            f"{call}: expected the path of {what} such as {example}; no path holds a NUL character."
        )
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for a ~name that is nobody's
