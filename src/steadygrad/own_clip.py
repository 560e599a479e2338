"""The script's own clip, judged as its two numbers are logged."""

from __future__ import annotations

import math
from collections.abc import Callable

from steadygrad.detect import Context
from steadygrad.detect.own_clip import OwnClipIsStepLimiter, OwnClipState
from steadygrad.records import Finding, Reading
from steadygrad.runfile.own_clip import AFTER, BEFORE


class OwnClip:
    """Pairs what is logged before and after the clip, and tells what is found.

    Args:
        tell: receives what is found.
    """

    def __init__(self, tell: Callable[[Finding], None]) -> None:
        self._tell = tell
        self._detector = OwnClipIsStepLimiter()
        self._state = OwnClipState()
        self._before = (-1, math.nan)
        self._lr = math.nan
        self._context = Context(())

    def step(self, reading: Reading, context: Context) -> None:
        """Take in a step of the first optimizer, for its learning rate, and what is known of it."""
        self._lr, self._context = reading.lr, context

    def number(self, step: int, name: str, value: float) -> None:
        """Take in a logged number."""
        if name == BEFORE:
            self._before = (step, value)
        elif name == AFTER and self._before[0] == step:
            self._state, finding = self._detector.observe(
                self._state, step, self._before[1], value, self._lr, self._context
            )
            if finding is not None:
                self._tell(finding)
