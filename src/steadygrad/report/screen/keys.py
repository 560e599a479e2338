"""Single keys of a terminal, without waiting for the return key."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HANG_UP = "hang up"
"""What is said in place of a key when the terminal is gone."""

_NAMES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"k": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"j": "down",
    b"\x03": "q",
    b"\x04": "q",
    b"Q": "q",
}


class Keyboard:
    """Keys as they are pressed.

    Args:
        descriptor: a terminal that hands out each key at once; None where there is no keyboard.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def wait(self, seconds: float) -> list[str]:
        """Wait for keys.

        Args:
            seconds: longest wait.

        Returns:
            What was pressed, in order; arrows by name.
        """
        if self._descriptor is None:
            time.sleep(seconds)
            return []
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return []
        try:
            typed = os.read(self._descriptor, 256)
        except OSError:
            typed = b""
        return list(_names(typed)) if typed else [HANG_UP]


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Take the keys of this terminal one by one, and leave it as it was.

    Yields:
        The keyboard; one that never says anything where stdin is no terminal.
    """
    try:
        import termios  # noqa: PLC0415 -- not on every system
        import tty  # noqa: PLC0415

        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (ImportError, AttributeError, OSError, ValueError, termios.error):
        yield Keyboard(None)
        return
    tty.setcbreak(descriptor)
    try:
        yield Keyboard(descriptor)
    finally:
        with suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _names(typed: bytes) -> Iterator[str]:
    while typed:
        size = 3 if typed[:2] in {b"\x1b[", b"\x1bO"} else 1
        key, typed = typed[:size], typed[size:]
        yield _NAMES.get(key, key.decode("latin-1"))
