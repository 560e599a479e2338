"""One remedy as something that can be done to a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from steadygrad.checkup.look import Look
from steadygrad.checkup.rehearsal import Setup
from steadygrad.records import Remedy

Group = Literal["none", "wiring", "data", "targets", "precision", "start", "steps"]


@dataclass(frozen=True, slots=True)
class Case:
    """What a remedy has to do with.

    Attributes:
        seen: what one step showed.
        kinds: kinds of the findings, without mere notes.
    """

    seen: Look
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """One remedy, or several together.

    Attributes:
        remedy: what a person would do.
        group: what it changes; two of one group exclude each other.
        change: does it to a copy, before its first step.
    """

    remedy: Remedy
    group: Group
    change: Callable[[Setup], None]

    def apply(self, setup: Setup) -> None:
        """Do it."""
        self.change(setup)

    def then(self, other: Plan) -> Plan:
        """This one and another."""
        action = f"{self.remedy.action}, and {other.remedy.action[0].lower()}{other.remedy.action[1:]}"
        code = "; ".join(one.remedy.code for one in (self, other) if one.remedy.code)

        def both(setup: Setup) -> None:
            self.apply(setup)
            other.apply(setup)

        return Plan(Remedy(action, code), self.group, both)
