"""A rate that leaps far above everything this run has been trained with."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAP = 10.0
"""A rate this many times the largest one so far is a mistake in a schedule; planned leaps are at most tenfold."""
GRADUAL = 2.0
"""Rise from one step to the next that is no leap: a range test of 100 steps multiplies its rate by 1.2 at each."""

_RECENT = 16


class RateCeiling:
    """Largest rate that a step may be made with: ``LEAP`` times the largest of the older steps.

    Older means at least 16 steps ago, so a rise that lasts is followed within a few times 16 steps.
    There is no ceiling for the first 32 steps: a linear warm-up doubles its rate between the 16th and
    the 32nd step, while it may start as near to zero as it likes. A rate that has come where it is
    gradually, at most doubled at each step, as in a range test, meets no ceiling.
    """

    def __init__(self) -> None:
        """Start with no history."""
        self._recent: deque[float] = deque()
        self._older = 0.0
        self._steps = 0
        self._newest = 0.0
        self._held = False

    def add(self, asked: float, factor: float = 1.0) -> None:
        """Take in the rate that was asked for in a step, and what it was multiplied by."""
        self._steps += 1
        self._newest, self._held = asked, factor < 1.0
        lr = asked * factor
        self._recent.append(lr)
        if len(self._recent) > _RECENT:
            self._older = max(self._older, self._recent.popleft())

    def factor(self, lr: float) -> float:
        """What to multiply a rate by; exactly 1 below the ceiling."""
        ceiling = LEAP * self._older
        gradual = not self._held and lr <= GRADUAL * self._newest
        if self._steps < 2 * _RECENT or lr <= ceiling or ceiling <= 0.0 or gradual:
            return 1.0
        return ceiling / lr

    def surely_allows(self, lr: float) -> bool:
        """Whether the factor is 1, and stays so whatever rates come before: the ceiling only rises."""
        return lr <= LEAP * self._older

    def state_dict(self) -> dict[str, Any]:
        """The rates held."""
        return {
            "recent": list(self._recent),
            "older": self._older,
            "steps": self._steps,
            "newest": self._newest,
            "held": self._held,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._recent = deque(state["recent"])
        self._older = float(state["older"])
        self._steps = int(state["steps"])
        self._newest, self._held = float(state.get("newest", 0.0)), bool(state.get("held", False))
