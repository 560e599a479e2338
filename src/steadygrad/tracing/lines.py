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
    "<frozen ",
)


class Line(NamedTuple):
    """A line of code; empty where there is none to name."""

    file: str = ""
    lineno: int = 0

    @property
    def source(self) -> str:
        """The text of the line."""
        return linecache.getline(self.file, self.lineno).strip() if self.file else ""


def user_line() -> Line:
    """Where the user's code is just now; empty where none of it runs inside of the replay.

    Code whose source is there is preferred: what nobody can read is named where there is nothing else.

    Whoever is behind the replay has asked for it, or made the optimizer's step: no line of theirs made
    the number.
    """
    unread: Line | None = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    while frame is not None and not frame.f_code.co_filename.startswith(_OURS):
        file = frame.f_code.co_filename
        if not file.startswith(_FOREIGN):
            line = Line(file, frame.f_lineno)
            # Code without a file has lines only where whoever made it has kept them, as consoles and notebooks do.
            if not file.startswith("<") or linecache.getlines(file):
                return line
            unread = unread or line
        frame = frame.f_back
    return unread or Line()
