"""Ctrl-Z: the terminal is given back before the process stops, and taken again when it goes on."""

from __future__ import annotations

import os
import signal
import threading
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_STOP = getattr(signal, "SIGTSTP", None)  # not on every system


class Pauses:
    """Takes note of Ctrl-Z instead of stopping at once.

    Attributes:
        asked: Ctrl-Z was pressed, and `pause` hasn't been called since.
    """

    def __init__(self) -> None:
        self.asked = False
        # Only the main thread may ask, and who started us with Ctrl-Z switched off wants it so.
        main = threading.current_thread() is threading.main_thread()
        self._active = main and _STOP is not None and signal.getsignal(_STOP) is signal.SIG_DFL

    def __enter__(self) -> Self:
        """Listen."""
        self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the signal as it was."""
        if self._active and _STOP is not None:
            signal.signal(_STOP, signal.SIG_DFL)

    def pause(self) -> None:
        """Stop here, as Ctrl-Z would have, until the shell lets the process go on."""
        self.asked = False
        if self._active and _STOP is not None:
            signal.signal(_STOP, signal.SIG_DFL)
            os.kill(os.getpid(), _STOP)
            self._listen()

    def _listen(self) -> None:
        if self._active and _STOP is not None:
            signal.signal(_STOP, self._note)

    def _note(self, *_: object) -> None:
        self.asked = True
