"""Whether a script has died of a number that isn't finite: a loss, a distribution or the script itself has refused it."""

from __future__ import annotations

import re
import sys
from traceback import walk_tb

_REFUSING = ("torch.distributions", "torch.nn.functional", "torch.nn.modules.loss")
# What is written in C, and a script's own check, refuse in words.
_WORDS = re.compile(r"\bnans?\b|\binf(inite)?\b|non-?finite|not finite", re.IGNORECASE)


class Deaths:
    """The exceptions that this interpreter has ended with; of a notebook's cells there are many.

    What it showed before this object was made is nothing that a training has died of.
    """

    def __init__(self) -> None:
        # By id: to hold it would keep everything alive that its traceback holds.
        self._old = id(getattr(sys, "last_value", None))

    def refusal(self) -> BaseException | None:
        """The newest, if it has refused a number that isn't finite; else None."""
        error = getattr(sys, "last_value", None)
        return error if error is not None and id(error) != self._old and is_refusal(error) else None


def is_refusal(error: BaseException) -> bool:
    """Whether an exception may say that a number isn't finite.

    Args:
        error: with its traceback.
    """
    if not isinstance(error, (ValueError, RuntimeError, ArithmeticError, AssertionError)):
        return False
    if _WORDS.search(str(error)):
        return True
    # Only what lies behind the script's own last line: a loss may call back into a script, too.
    for frame, _ in reversed(list(walk_tb(error.__traceback__))):
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith(_REFUSING):
            return True
        if name.partition(".")[0] != "torch":
            break
    return False
