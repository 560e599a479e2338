"""The rule that was tried: were the first steps the worst of the run, and has it got nowhere since?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

FIRST = 10
"""Steps that may have poisoned a run: so long no policy has a history."""
WINDOW = 96
"""Steps after which to look back."""
SETTLED = 16
"""Step from which on norms and losses tell what became usual."""


@dataclass(frozen=True)
class Look:
    """What a run looks like after its first steps.

    Attributes:
        usual: median norm once the first steps were over.
        excess: largest norm of the first steps, as a multiple of it.
        rise: largest of the first losses, as a multiple of the very first.
        gain: median of the newest losses, as a multiple of the lowest of the first.
        stuck: the same, as a multiple of the median before.
    """

    usual: float
    excess: float
    rise: float
    gain: float
    stuck: float

    @property
    def is_loud(self) -> bool:
        """Whether a first norm was far above all since, and the loss has gained nothing since."""
        return 32.0 <= self.excess < math.inf and self.gain >= 0.5

    @property
    def is_poisoned(self) -> bool:
        """Whether besides it threw the loss up, and the loss isn't falling: then no healthy run can look like it."""
        return self.is_loud and self.rise >= 2.0 and self.stuck >= 0.9


def look_back(norms: Sequence[float], losses: Sequence[float]) -> Look | None:
    """Look back at a run from the end of its start; None where there is too little, or a loss isn't positive."""
    norms, losses = norms[:WINDOW], losses[:WINDOW]
    if len(losses) < len(norms) or len(norms) < 2 * SETTLED or not all(loss > 0.0 for loss in losses):
        return None
    first = [norm for norm in norms[:FIRST] if math.isfinite(norm)]
    since = [norm for norm in norms[SETTLED:] if math.isfinite(norm)]
    usual = _middle(since) if since else 0.0
    if not first or usual <= 0.0:
        return None
    half = (SETTLED + len(losses)) // 2
    newest, before, early = _middle(losses[half:]), _middle(losses[SETTLED:half]), losses[:FIRST]
    return Look(usual, max(first) / usual, max(early) / early[0], newest / min(early), newest / before)


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
