"""Has the loss left its course? Medians of the losses that were logged, and nothing else.

One spike is no reason: a catapult in early training shoots up and comes down by itself, into a flatter
place. Three things say that the weights are the worse for it: a loss that stays up, or falls so slowly that it
won't be back soon; spikes that come far more often than they used to; a loss that was far up for some steps,
came down, and stays worse than it was before.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

REFERENCE = 64
"""Losses that say what is usual; the median of as many follows a learning run, and not its noise."""
LEAST = 32
"""Below this many a loss has no course yet: it may go anywhere but far above where it began."""
FIRST = 4
"""Losses that say where that is."""
STAYS = 12
"""So many in a row above the limit, the last 8 not falling, are a divergence: a catapult's way up is shorter."""
_FALL = 8
RECENT = 16
AGAIN = 8
"""So many of the last 16 above the limit are repeated spikes, unless that is no news."""
_LONG = 256
"""Losses that say how often spikes come anyway; half as many must be there."""
_DEVIATIONS = 5.5
"""Standard deviations above the usual number of spikes in 16: a data set with outliers has them all the time, and is
looked at a thousand times."""
PATIENCE = 32
"""A loss may fall back by itself. One that will need more steps for it than going back would cost, and more than this,
isn't waited for: a catapult is down again sooner."""
EPISODE = 5
"""So many in a row above the limit, and then no longer, are an episode: fewer do no lasting harm under a cap."""
_RARELY = 0.1
"""Share of spikes below which so many in a row don't come by chance."""
AFTERMATH = 8
"""Losses after an episode whose median says what it has left behind."""
_CERTAIN = 2.5
"""Times the spread over the root of their number: two standard errors of that median."""
WORSE = 1.25
"""Times what was usual before: less than that is made good in about the time that going back would cost."""
DIVERGENCE, SPIKES, HARM = "divergence", "repeated spikes", "lasting harm"
SPREADS = 10.0
_MAD_TO_SIGMA = 1.4826
_FALLING = 0.9


@dataclass(frozen=True, slots=True)
class Question:
    """What must come true after a rollback for it to have helped.

    Attributes:
        bar: the loss to be at or below.
        losses: how many are waited for.
        share: share of them that must be there.
    """

    bar: float
    losses: int = 4
    share: float = 0.5

    def answered(self, losses: Sequence[float]) -> bool:
        """Whether these losses say yes."""
        ordered = sorted(value if math.isfinite(value) else math.inf for value in losses)
        return ordered[min(len(ordered) - 1, int(len(ordered) * self.share))] <= self.bar


class Course:
    """The losses of a run, and whether they are still where they should be.

    Attributes:
        elevated: whether the newest loss is far above what is usual.
        minds_spikes: whether spikes that come again and again are a trouble. They aren't where other weights
            didn't keep them away: then they belong to the data, and between them the loss is what it was.
        question: of the newest trouble.
    """

    def __init__(self) -> None:
        self._reference: deque[float] = deque(maxlen=REFERENCE)
        self._newest: deque[tuple[float, bool]] = deque(maxlen=RECENT)
        self._long: deque[bool] = deque(maxlen=_LONG)
        self._limit = math.inf
        self._usual = self._spread = 0.0
        self._due = 0
        self._above = 0
        self._aftermath: list[float] | None = None
        self.elevated = False
        self.minds_spikes = True
        self.question = Question(math.inf)

    @property
    def unsettled(self) -> bool:
        """Whether the loss is far above what is usual, or has been and hasn't shown yet what that has left behind."""
        return self.elevated or self._aftermath is not None

    @property
    def limit(self) -> float:
        """The loss above which it is; ``inf`` while nothing is usual yet."""
        return self._limit

    def add(self, loss: float) -> None:
        """Take in the loss of one step."""
        above = not loss <= self._limit if self._limit < math.inf else not math.isfinite(loss)
        if len(self._newest) == RECENT:
            self._long.append(self._newest[0][1])
        self._newest.append((loss, above))
        self.elevated = above
        if not above and self._above >= EPISODE and len(self._reference) >= LEAST and self._rate() < _RARELY:
            self._aftermath = []
        self._above = self._above + 1 if above else 0
        if self._aftermath is not None:
            # What an episode has left behind is not what is usual.
            self._aftermath.append(loss)
        elif not above:
            self._learn(loss)

    def trouble(self, cost: float) -> str:
        """What is wrong with it, as a sentence; empty while it is on its course.

        Args:
            cost: steps that going back would lose.
        """
        if len(self._reference) < FIRST:
            return ""
        if self._aftermath is not None and len(self._aftermath) >= AFTERMATH:
            return self._left_behind(max(PATIENCE, cost))
        if not self.elevated:
            return ""
        losses = [loss for loss, _ in self._newest]
        told = f"the loss is {losses[-1]:.3g}, and was {self._usual:.3g}"
        if self._above >= STAYS and self._ahead(losses[-_FALL:]) > max(PATIENCE, cost):
            self.question = Question(self._limit)
            return f"{DIVERGENCE}: {told} until {self._above} steps ago"
        spikes = sum(above for _, above in self._newest)
        if (
            len(self._reference) >= LEAST
            and self.minds_spikes
            and spikes >= self._many() > self._above
            and not _falls(losses)
        ):
            self.question = Question(self._limit, RECENT, 0.75)
            return f"{SPIKES}: {told}; far above in {spikes} of the last {len(losses)} steps"
        return ""

    def went_back(self) -> None:
        """The weights are others now: what came after them says nothing."""
        self._newest.clear()
        self.elevated = False
        self._above = 0
        self._aftermath = None

    def accept(self) -> None:
        """The level has changed for good: learn it anew."""
        self.went_back()
        self._reference.clear()
        self._limit = math.inf
        self._due = 0

    def _learn(self, loss: float) -> None:
        self._reference.append(loss)
        self._due -= 1
        if FIRST <= len(self._reference) < LEAST:
            self._usual = max(self._reference)
            self._limit = self._usual + max(abs(self._usual), self._usual - min(self._reference))
        elif self._due <= 0 and len(self._reference) >= LEAST:
            self._usual = _middle(self._reference)
            self._spread = _MAD_TO_SIGMA * _middle([abs(one - self._usual) for one in self._reference])
            self._limit = self._usual + max(SPREADS * self._spread, abs(self._usual))
            self._due = _FALL

    def _left_behind(self, patience: float) -> str:
        """What an episode has left behind, if that is worse than before and isn't about to go by itself."""
        losses, self._aftermath = self._aftermath or [], None
        level = _middle(losses)
        noise = _CERTAIN * self._spread / math.sqrt(len(losses))
        if level <= self._usual + max(noise, (WORSE - 1.0) * abs(self._usual)):
            return ""
        if self._ahead(losses) <= patience:
            self._aftermath = []
            return ""
        self.question = Question((level + self._usual) / 2, AFTERMATH)
        return f"{HARM}: after some steps far above the loss is {level:.3g}, and was {self._usual:.3g} before"

    def _ahead(self, losses: Sequence[float]) -> float:
        """Steps until the loss is what it was, if it goes on falling as it does."""
        half = len(losses) // 2
        before, after = _middle(losses[:half]), _middle(losses[half:])
        if not _falls(losses):
            return math.inf
        if before == math.inf or self._usual <= 0.0:
            return 0.0
        return half * math.log(after / self._usual) / math.log(before / after)

    def _many(self) -> float:
        """How many spikes in 16 losses are news: far more than there use to be."""
        if len(self._long) < _LONG // 2:
            return math.inf
        rate = self._rate()
        usual = RECENT * rate
        return max(AGAIN, usual + _DEVIATIONS * math.sqrt(usual * (1.0 - rate)))

    def _rate(self) -> float:
        """Share of the losses, but for the newest, that were far above."""
        return sum(self._long) / max(1, len(self._long))


def _falls(losses: Sequence[float]) -> bool:
    half = len(losses) // 2
    before, after = _middle(losses[:half]), _middle(losses[half:])
    return after < _FALLING * before


def _middle(values: Sequence[float]) -> float:
    ordered = sorted(value if math.isfinite(value) else math.inf for value in values)
    return ordered[len(ordered) // 2]
