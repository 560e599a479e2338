"""How often pictures are renewed: as the browser keeps up, and a small part of its time."""

from __future__ import annotations

import math

LEAST_S, MOST_S = 0.8, 2.0
"""A browser that paints at once sees new pictures every 0.8 s, so that a step is seen within two; one that is short of
time, every 2 s: it is told the newest step in words before."""

SHARE = 20.0
"""It paints a twentieth of the time, since the training may want the same cores."""

PATIENCE_S = 10.0
"""Pictures that were never painted (the browser slept, or lost the word of it) don't hold up others longer."""


class Pace:
    """When pictures may be renewed.

    Example:
        >>> pace = Pace()
        >>> pace.due(0.0), pace.sent(0.0), pace.due(1.0)
        (True, '1', False)
        >>> pace.painted("1", 0.06)
        >>> pace.due(1.0), pace.due(1.2)
        (False, True)
    """

    def __init__(self) -> None:
        """The first may be sent at once."""
        self._count = 0
        self._answered = True
        self._sent_s, self._wait_s = -math.inf, 0.0

    def due(self, now_s: float) -> bool:
        """Whether it is time for new ones.

        Args:
            now_s: seconds on any clock.
        """
        return now_s - self._sent_s >= (self._wait_s if self._answered else PATIENCE_S)

    def sent(self, now_s: float) -> str:
        """Take note that new ones are sent.

        Args:
            now_s: seconds on the same clock.

        Returns:
            Their number, which the browser gives back once they are painted.
        """
        self._count += 1
        self._answered, self._sent_s = False, now_s
        return str(self._count)

    def painted(self, number: str, took_s: float) -> None:
        """Take note that they are painted.

        Args:
            number: which.
            took_s: seconds from their arrival until they were seen; a browser's word, so it may be anything.
        """
        if number != str(self._count):
            return
        self._answered = True
        self._wait_s = min(max(SHARE * took_s, LEAST_S), MOST_S) if math.isfinite(took_s) else MOST_S

    def hurry(self) -> None:
        """The reader looks at something else: it is not to wait."""
        self._answered, self._wait_s = True, 0.0
