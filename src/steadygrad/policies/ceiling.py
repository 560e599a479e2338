"""A rate that leaps far above everything this run has been trained with."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAP = 10.0
"""A rate this many times the largest one so far is a mistake in a schedule; planned rises are at most tenfold."""

_RECENT = 16


class RateCeiling:
    """Largest rate that a step may be made with: ``LEAP`` times the largest of the older steps.

    Older means at least 16 steps ago, so a rise that lasts is followed within a few times 16 steps.
    There is no ceiling for the first 32 steps: a linear warm-up doubles its rate between the 16th and
    the 32nd step, while it may start as near to zero as it likes.
    """

    def __init__(self) -> None:
        """Start with no history."""
        self._recent: deque[float] = deque()
        self._older = 0.0
        self._steps = 0

    def add(self, lr: float) -> None:
        """Take in the rate that a step was made with."""
        self._steps += 1
        self._recent.append(lr)
        if len(self._recent) > _RECENT:
            self._older = max(self._older, self._recent.popleft())

    def factor(self, lr: float) -> float:
        """What to multiply a rate by; exactly 1 below the ceiling."""
        ceiling = LEAP * self._older
        if self._steps < 2 * _RECENT or lr <= ceiling or ceiling <= 0.0:
            return 1.0
        return ceiling / lr

    def state_dict(self) -> dict[str, Any]:
        """The rates held."""
        return {"recent": list(self._recent), "older": self._older, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._recent = deque(state["recent"])
        self._older = float(state["older"])
        self._steps = int(state["steps"])
