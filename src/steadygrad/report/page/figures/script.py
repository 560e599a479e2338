"""The scripts that run in the reader's browser, beside this package as files of their own."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def script(name: str) -> str:
    """The text of one script.

    Args:
        name: its file in ``page/scripts``.

    Returns:
        The text.
    """
    return (files("steadygrad.report.page") / "scripts" / name).read_text("utf-8")
