"""The console every command prints to."""

from __future__ import annotations

import os
import sys

from rich.console import Console

PIPED_WIDTH = 120
"""Columns where there is no terminal to ask: wide enough for a row of a table."""


def console() -> Console:
    """Build a console on stdout.

    It shows names as they are (no markup, no emoji codes, no guessed highlights), and neither
    colours nor a terminal's width where the output is piped. ``NO_COLOR`` and ``COLUMNS`` hold.

    Returns:
        The console.
    """
    piped = sys.stdout is None or not sys.stdout.isatty()
    width = PIPED_WIDTH if piped and not os.environ.get("COLUMNS", "").isdigit() else None
    return Console(width=width, markup=False, emoji=False, highlight=False)
