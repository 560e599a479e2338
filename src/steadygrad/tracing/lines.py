"""The user's line: the innermost frame that is neither torch's nor ours."""

from __future__ import annotations

import linecache
import sys
import sysconfig
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch

_STDLIB = sysconfig.get_path("stdlib")
_OURS = str(Path(__file__).parents[1])
_FOREIGN = (
    str(Path(torch.__file__).parent),
    str(Path(_STDLIB) / "contextlib.py"),
    str(Path(_STDLIB) / "functools.py"),
    "<eval_with_key>",
)


class Line(NamedTuple):
    """A line of code; empty where the source isn't available."""

    file: str = ""
    lineno: int = 0

    @property
    def source(self) -> str:
        """The text of the line."""
        return linecache.getline(self.file, self.lineno).strip() if self.file else ""


def user_line() -> Line:
    """Where the user's code is just now; empty where none of it runs inside of the replay.

    Whoever is behind the replay has asked for it, or made the optimizer's step: no line of theirs made
    the number.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    while frame is not None and not frame.f_code.co_filename.startswith(_OURS):
        if _is_users(frame.f_code.co_filename):
            return Line(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return Line()


def _is_users(file: str) -> bool:
    """Code without a file has lines only where whoever made it has kept them, as consoles and notebooks do."""
    return not file.startswith(_FOREIGN) and (not file.startswith("<") or bool(linecache.getlines(file)))
