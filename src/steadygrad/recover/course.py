"""Has the loss left its course? Medians of the losses that were logged, and nothing else.

One spike is no reason: a catapult in early training shoots up and comes down by itself, into a flatter
place. Only a loss that stays up, or comes up again and again, says that the weights are the worse for it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

REFERENCE = 64
"""Losses that say what is usual; the median of as many follows a learning run, and not its noise."""
LEAST = 32
"""Below this many nothing is judged: before, a loss has no course yet."""
STAYS = 12
"""So many in a row above the limit, the last 8 not falling, are a divergence: a catapult's way up is shorter."""
_FALL = 8
RECENT = 16
AGAIN = 8
"""So many of the last 16 above the limit are repeated spikes."""
TOO_LONG = 64
"""A loss may fall back slowly; one that is still above the limit after so many steps is not coming back."""
SPIKES = "repeated spikes"
SPREADS = 10.0
_MAD_TO_SIGMA = 1.4826
_FALLING = 0.9


class Course:
    """The losses of a run, and whether they are still where they should be.

    Attributes:
        minds_spikes: whether spikes that come again and again are a trouble. They aren't where other weights
            didn't keep them away: then they belong to the data, and between them the loss is what it was.
    """

    def __init__(self) -> None:
        self._reference: deque[float] = deque(maxlen=REFERENCE)
        self._newest: deque[tuple[float, bool]] = deque(maxlen=RECENT)
        self._limit = math.inf
        self._due = 0
        self._above = 0
        self.minds_spikes = True

    @property
    def elevated(self) -> bool:
        """Whether the newest loss is far above what is usual."""
        return bool(self._newest) and self._newest[-1][1]

    @property
    def limit(self) -> float:
        """The loss above which it is; ``inf`` while nothing is usual yet."""
        return self._limit

    def add(self, loss: float) -> None:
        """Take in the loss of one step."""
        above = not loss <= self._limit if len(self._reference) >= LEAST else not math.isfinite(loss)
        self._newest.append((loss, above))
        self._above = self._above + 1 if above else 0
        if not above:
            self._reference.append(loss)
            self._due -= 1
            if self._due <= 0 and len(self._reference) >= LEAST:
                self._limit = _limit_of(self._reference)
                self._due = _FALL

    def trouble(self) -> str:
        """What is wrong with it, as a sentence; empty while it is on its course."""
        if len(self._reference) < LEAST or not self.elevated:
            return ""
        losses = [loss for loss, _ in self._newest]
        usual = _middle(self._reference)
        told = f"the loss is {losses[-1]:.3g}, and was {usual:.3g}"
        if self._above >= TOO_LONG:
            return f"divergence: {told} until {self._above} steps ago"
        if self._above >= STAYS and not _falls(losses[-_FALL:]):
            return f"divergence: {told} until {self._above} steps ago"
        spikes = sum(above for _, above in self._newest)
        if self.minds_spikes and spikes >= AGAIN > self._above and not _falls(losses):
            return f"{SPIKES}: {told}; far above in {AGAIN} of the last {len(losses)} steps"
        return ""

    def went_back(self) -> None:
        """The weights are others now: what came after them says nothing."""
        self._newest.clear()
        self._above = 0

    def accept(self) -> None:
        """The level has changed for good: learn it anew."""
        self.went_back()
        self._reference.clear()
        self._limit = math.inf
        self._due = 0


def _limit_of(losses: Sequence[float]) -> float:
    usual = _middle(losses)
    spread = _MAD_TO_SIGMA * _middle([abs(loss - usual) for loss in losses])
    return usual + max(SPREADS * spread, abs(usual))


def _falls(losses: Sequence[float]) -> bool:
    half = len(losses) // 2
    before, after = _middle(losses[:half]), _middle(losses[half:])
    return after < _FALLING * before


def _middle(values: Sequence[float]) -> float:
    ordered = sorted(value if math.isfinite(value) else math.inf for value in values)
    return ordered[len(ordered) // 2]
