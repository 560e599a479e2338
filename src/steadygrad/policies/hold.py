"""How long `auto` keeps its caps on: from the first sign until the run is calm, or patience ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Change = Literal["engage", "lower", "calm", "patience"]

HOLD = 32
"""Calm steps after which the caps go; 16 to 256 differ by noise only, and short is cheap if wrong."""
PATIENCE = 1000
"""Steps without a new sign after which the caps go, calm or not. `steady`'s caps harm little, and a run that has
shown trouble is lost when they go too early: 100 lost 3 of 11 unstable workloads that 1000 keeps."""
MAX_PATIENCE = 16000
"""Where the patience stops doubling: also a run that needs the caps again and again is tried anew."""


class Hold:
    """Whether the caps are on, step by step.

    A run that is calm is let go at once; one that never calms down keeps the caps for long, since the
    step that shows that they were needed may be the one that ruins the weights. Patience doubles each
    time the caps are needed again soon after it has ended.

    Attributes:
        engagements: how often the caps went on.
        lowered: steps whose rate was lowered.
    """

    def __init__(self) -> None:
        """Start with the caps off."""
        self.engagements = 0
        self.lowered = 0
        self._steps = 0
        self._engaged_until = 0
        self._last_sign = 0
        self._patience = PATIENCE
        self._let_go_at: int | None = None
        self._lowering_until = 0

    @property
    def engaged(self) -> bool:
        """Whether the caps are on."""
        return self._steps < self._engaged_until

    @property
    def waited(self) -> int:
        """Steps since the newest sign."""
        return self._steps - self._last_sign

    def add(self, *, sign: bool, unrest: bool, lowered: bool) -> Change | None:
        """Take in one step.

        Args:
            sign: the step would engage the caps.
            unrest: an engaged run that shows this isn't calm.
            lowered: the rate was lowered for the step.

        Returns:
            What changed: the caps went on, the rate was lowered while they are off (told once in
            `HOLD` steps), they went off since the run is calm, or since patience has ended.
        """
        was_engaged = self.engaged
        self._steps += 1
        if sign:
            self._last_sign = self._steps
            self._engaged_until = self._steps + HOLD
        elif was_engaged and unrest:
            self._engaged_until = min(self._steps + HOLD, self._last_sign + self._patience)
        announces = self._lowers(lowered=lowered)
        if self.engaged and not was_engaged:
            return self._engage()
        if was_engaged and not self.engaged:
            return self._release()
        return "lower" if announces and not self.engaged else None

    def state_dict(self) -> dict[str, Any]:
        """All counters."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        for name in _STATE:
            setattr(self, name, state[name])

    def _lowers(self, *, lowered: bool) -> bool:
        announces = lowered and self._steps > self._lowering_until
        if lowered:
            self.lowered += 1
            self._lowering_until = self._steps + HOLD
        return announces

    def _engage(self) -> Change:
        self.engagements += 1
        if self._let_go_at is not None:
            soon = self._steps - self._let_go_at <= PATIENCE
            self._patience = min(2 * self._patience, MAX_PATIENCE) if soon else PATIENCE
        return "engage"

    def _release(self) -> Change:
        is_calm = self._steps - self._last_sign < self._patience
        self._let_go_at = None if is_calm else self._steps
        return "calm" if is_calm else "patience"


_STATE = (
    "engagements",
    "lowered",
    "_steps",
    "_engaged_until",
    "_last_sign",
    "_patience",
    "_let_go_at",
    "_lowering_until",
)
