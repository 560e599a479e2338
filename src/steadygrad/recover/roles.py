"""What recovery works with: an optimizer under guard, and somebody to tell."""

from __future__ import annotations

from typing import Protocol

from steadygrad.measure import ParamTable
from steadygrad.records import Finding, Incident, Reading
from steadygrad.recover.state import Trained
from steadygrad.stepping import Brake, Lane


class Guarded(Trained, Protocol):
    """One optimizer as recovery needs it."""

    index: int
    table: ParamTable
    lane: Lane
    brake: Brake

    def went_back(self, step: int) -> None:
        """Take note that weights and state have been put back to those of ``step``."""


class Outlet(Protocol):
    """Where recovery tells what it does.

    Attributes:
        findings: what was found so far.
        at_ease: whether plain steps are told late.
    """

    findings: list[Finding]
    at_ease: bool

    @property
    def behind(self) -> bool:
        """Whether the step that is told of isn't the newest, or the next one has begun."""

    def say(self, key: str, text: str) -> None:
        """One line on stderr."""

    def finding(self, finding: Finding) -> None:
        """Something was found."""

    def incident(self, incident: Incident) -> None:
        """Something was done."""

    def wary(self) -> None:
        """The step about to be made may end in a rollback."""

    def ruined(self, reading: Reading, *, final: bool) -> None:
        """The state is about to be put back: now or never it can be looked at."""
