"""One-line messages to a person at a terminal, never more than they can read.

Not `logging`: a notice must be seen by somebody who has configured nothing. Not `warnings`: those
are silent after the first, or errors under test runners.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERVAL_S = 30.0
QUIET = "STEADYGRAD_QUIET"


class Notices:
    """Say each kind of thing at once, then at most once in 30 seconds.

    What comes in between is counted and told with the next line, "(and 12 more)", or by `flush`.
    Lines go to whatever ``sys.stderr`` is at that moment. Only rank 0 speaks (environment variable
    ``RANK``), and nobody does under ``STEADYGRAD_QUIET=1``. Nothing here ever raises: a closed
    terminal must not end a training. Any thread may call; there is no lock, because a fork could
    copy a held one, so a race may miscount at worst.

    Args:
        clock: seconds, monotonic; another one makes tests quick.

    Example:
        >>> import sys
        >>> sys.stderr = sys.stdout
        >>> notices = Notices()
        >>> notices.say("skip", "step 412 skipped")
        steadygrad: step 412 skipped
        >>> notices.say("skip", "step 413 skipped")
        >>> notices.flush()
        steadygrad: step 413 skipped
        >>> sys.stderr = sys.__stderr__
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spoken_s: dict[str, float] = {}
        self._held: dict[str, tuple[str, int]] = {}

    def say(self, key: str, text: str) -> None:
        """Show ``text`` unless a line of the same ``key`` was shown less than 30 seconds ago."""
        if _silent():
            return
        now_s = self._clock()
        _, held = self._held.pop(key, ("", 0))
        if now_s - self._spoken_s.get(key, -math.inf) < INTERVAL_S:
            self._held[key] = (text, held + 1)
            return
        self._spoken_s[key] = now_s
        _write(text, more=held)

    def flush(self) -> None:
        """Show the newest line of each kind that is still held back."""
        held, self._held = self._held, {}
        now_s = self._clock()
        for key, (text, count) in list(held.items()):
            self._spoken_s[key] = now_s
            _write(text, more=count - 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep all lines off the screen: whoever attaches inside tells the findings in another way."""
    before = os.environ.get(QUIET)
    os.environ[QUIET] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(QUIET, None)
        else:
            os.environ[QUIET] = before


def _silent() -> bool:
    return os.environ.get(QUIET, "") not in {"", "0"} or os.environ.get("RANK", "0") != "0"


def _write(text: str, more: int) -> None:
    line = " ".join(text.split())
    tail = f" (and {more:,} more)" if more > 0 else ""
    try:
        sys.stderr.write(f"steadygrad: {line}{tail}\n")
        sys.stderr.flush()
    except Exception:  # noqa: BLE001, S110 - a terminal that is gone is no reason to stop a training
        pass
