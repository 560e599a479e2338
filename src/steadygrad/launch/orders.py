"""What to do with the trainings that a script turns out to contain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from steadygrad.launch.policy_call import PolicyCall


@dataclass(frozen=True, slots=True)
class Orders:
    """What was asked for on the command line.

    Attributes:
        guard: act; otherwise only observe.
        policy: what a guard does with finite gradients; None is its default.
        folder: absolute folder of the run files: the script may change its directory.
        name: name of the first run; later ones get a number.
        quiet: say nothing on stderr.
        child: this is a process that the script has spawned.
    """

    guard: bool
    policy: PolicyCall | None
    folder: Path
    name: str
    quiet: bool = False
    child: bool = False

    @property
    def mode(self) -> Literal["guard", "watch"]:
        """``guard`` or ``watch``."""
        return "guard" if self.guard else "watch"
