"""A traceback as python would show it: without the frames that brought the script to life."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

_OURS = str(Path(__file__).parent)
# What stands between a caller and a function that the compiler is not to trace.
_BETWEEN = (str(Path("torch", "_compile.py")), str(Path("torch", "_dynamo", "eval_frame.py")))


def show_without_us() -> None:
    """Have the exception that is on its way out shown without our frames, by whatever hook is set.

    Called when the script has failed and not before: its own ``sys.excepthook`` is left alone, and
    does the showing.
    """
    hook = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        shown = _theirs(traceback)
        hook(kind, error.with_traceback(shown), shown)

    sys.excepthook = excepthook


def _theirs(traceback: TracebackType | None) -> TracebackType | None:
    """What comes after the last frame of the launcher's start, without wrappers of ours in between."""
    frames = []
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    ours = [one.tb_frame.f_code.co_filename.startswith(_OURS) for one in frames]
    start = ours.index(True) if True in ours else 0
    kept: TracebackType | None = None
    leading_to_us = False
    for one, is_ours in zip(reversed(frames[start:]), reversed(ours[start:]), strict=True):
        between = leading_to_us and one.tb_frame.f_code.co_filename.endswith(_BETWEEN)
        leading_to_us = is_ours or between
        if not leading_to_us:
            kept = TracebackType(kept, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return kept
