"""The loop of the terminal view: look, draw, listen to the keys."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from steadygrad.errors import RunFileError
from steadygrad.report.screen.keys import HANG_UP, Keyboard, keyboard
from steadygrad.report.screen.numbers import fitted
from steadygrad.report.screen.pauses import Pauses
from steadygrad.report.screen.sight import Sight

AGES_EVERY_S = 1.0
"""Ages move on while nothing is written; a drawing takes some 20 ms."""

LOOK_EVERY_S = 0.2
"""A look at an unchanged file is one ``stat``; five a second show a step as soon as it is written."""


class Frame:
    """A sight with the keys below it, as tall as the console.

    Args:
        sight: what is looked at.
    """

    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the sight, and the keys on the last line."""
        height = max((options.height or options.max_height) - 1, 1)
        lines = console.render_lines(self._sight, options.update(height=height), pad=False)[:height]
        for line in lines:
            yield from (*line, Segment.line())
        yield from [Segment.line()] * (height - len(lines))
        keys = [Text(key, "dim") for key in ("q quit", *self._sight.keys)]
        told = fitted(keys, options.max_width)
        told.no_wrap, told.overflow, told.end = True, "crop", ""
        yield told


def show(sight: Sight, console: Console) -> None:
    """Show a sight until ``q``, Ctrl-C, or the end of the terminal; Ctrl-Z pauses it.

    Where there is no terminal to draw on (a pipe, ``TERM=dumb``), it is printed once.

    Args:
        sight: what to look at.
        console: where to draw.

    Raises:
        RunFileError: there is neither a terminal to wait on nor a run to print.
    """
    if not console.is_terminal or console.is_dumb_terminal:
        sight.look()
        if sight.fault:
            raise RunFileError(sight.fault)
        console.print(sight, crop=False)
        return
    try:
        with _ends_on_terminate(), Pauses() as pauses:
            while not _shown(sight, console, pauses):
                pauses.pause()
    except (KeyboardInterrupt, BrokenPipeError):
        pass  # the ways to leave a view; nothing was being done


def _shown(sight: Sight, console: Console, pauses: Pauses) -> bool:
    """Show it until it is left, or is to pause; the terminal is as it was then. True where it was left."""
    live = Live(Frame(sight), console=console, screen=True, auto_refresh=False)
    with keyboard() as keys, live:
        return _loop(sight, live, keys, pauses)


def _loop(sight: Sight, live: Live, keys: Keyboard, pauses: Pauses) -> bool:
    drawn_s, drawn_size = -math.inf, live.console.size
    while not pauses.asked:
        changed, now_s, size = sight.look(), time.monotonic(), live.console.size
        # Another size is noticed at the next look.
        if changed or size != drawn_size or now_s - drawn_s >= AGES_EVERY_S:
            live.refresh()
            drawn_s, drawn_size = now_s, size
        for key in keys.wait(LOOK_EVERY_S):
            if key in {"q", HANG_UP}:
                return True
            sight.press(key)
            drawn_s = -math.inf
    return False


@contextmanager
def _ends_on_terminate() -> Iterator[None]:
    """Leave the terminal as it was also when the process is told to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
