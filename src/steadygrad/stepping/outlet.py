"""Where the results of a track go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from steadygrad.records import Finding, Incident, Reading, TensorInfo

if TYPE_CHECKING:
    from steadygrad.stepping.track import Track


class Outlet(Protocol):
    """`steadygrad.logbook.Logbook` is one.

    Attributes:
        at_ease: nothing calls for being told of each step at once.
    """

    at_ease: bool

    def free_until(self, track: Track) -> float:
        """Step of this track before which it may be told of plain steps late; 0 where it must hear of the next one."""

    def passes(self, track: Track) -> None:
        """A step is about to be made of which nothing else will be told before it has ended."""

    def passed(self, track: Track, reading: Reading) -> None:
        """It has ended; `Track.tell` is called for it later."""

    def settle(self, *, ended: bool = False) -> None:
        """Have all steps told that have passed.

        Args:
            ended: the newest of them has just ended, and no other has begun.
        """

    def begins(self, track: Track) -> None:
        """A step is about to be measured."""

    def reading(self, track: Track, reading: Reading) -> None:
        """A step has ended."""

    def told(self, track: Track, reading: Reading) -> None:
        """The same of a step that has passed: it is written down already."""

    def skipped(self, reading: Reading) -> None:
        """A step was left out, and everything that is found of it has been told."""

    def finding(self, finding: Finding) -> None:
        """A detector has found something."""

    def incident(self, incident: Incident) -> None:
        """The policy has done something worth telling."""

    def nonfinite(self, track: Track) -> None:
        """The step about to be made is non-finite, and the weights are still those that made it."""

    def grown(self, track: Track, tensors: Sequence[TensorInfo]) -> None:
        """Parameters have joined the optimizer."""

    def ended(self, track: Track) -> None:
        """A step over several ranks has ended: the same moment on each of them."""

    def say(self, key: str, text: str) -> None:
        """One line for the user."""


class Waiter(Protocol):
    """A listener that says how long it can wait; the others can always."""

    @property
    def usual_loss(self) -> float:
        """Largest loss that it can be told of later."""

    def waits_until(self, optimizer: int) -> float:
        """Step of this optimizer before which plain steps may be told later; 0 where it must hear of the next one."""
