"""What follows from a step that has ended: the policy learns, detectors look, the outlet publishes, skips are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadygrad.containment import Containment
from steadygrad.detect import Context, Panel
from steadygrad.detect.finding import listed
from steadygrad.measure import own_part
from steadygrad.policies.base import Policy
from steadygrad.records import Finding, Incident, Reading
from steadygrad.stepping.arrears import Arrears, is_plain
from steadygrad.stepping.lookout import Lookout
from steadygrad.stepping.outlet import Outlet
from steadygrad.stepping.streak import SkipStreak

if TYPE_CHECKING:
    from steadygrad.stepping.track import Track

# Counting, recording and showing: a fault in it must not cost the guard.
REPORTING = "reporting"


class Aftermath:
    """Takes in the Readings of one optimizer, in the order of its steps.

    Args:
        track: the optimizer's, as the outlet knows it.
        policy: what learns; None only watches.
        context: what detectors may know.
        streak: counts skipped steps in a row.
        outlet: where results go.
        containment: holds back faults of steadygrad's own.

    Attributes:
        unlearnt: what the policy is told of later.
        lookout: the detectors.
        streak: the same.
    """

    def __init__(
        self,
        track: Track,
        policy: Policy | None,
        context: Context,
        streak: SkipStreak,
        outlet: Outlet,
        containment: Containment,
    ) -> None:
        self.unlearnt = Arrears(self._learn)
        self.streak = streak
        self._track, self._policy, self._outlet = track, policy, outlet
        self._contained = containment.run
        self.lookout = Lookout(Panel(context), containment, self._found)

    def catch_up(self) -> None:
        """Have the policy learn from the steps that were put off, and detectors look them through."""
        self.unlearnt.settle()
        self.lookout.settle()

    def take(self, reading: Reading, *, left_alone: bool, early: bool) -> None:
        """Take in a step.

        Args:
            reading: the step.
            left_alone: as a matter of course: what the policy learns from it can wait.
            early: somebody has asked between two steps: over ranks nothing may be learnt then.
        """
        plain = is_plain(reading)
        if plain and left_alone:
            self.unlearnt.add(reading)
        else:
            self.unlearnt.settle()
            if not early:
                self._learn(reading)
        self._contained(REPORTING, self._outlet.reading, self._track, reading)
        self.lookout.take(reading, waits=plain)
        if reading.skipped:
            self._contained(REPORTING, self._outlet.skipped, reading)
        if not early:
            self._count(reading)

    def take_owed(self, reading: Reading) -> None:
        """Do what was put off when this Reading was asked for early."""
        self._learn(reading)
        self._count(reading)

    def take_passed(self, reading: Reading) -> None:
        """Take in a plain step that has taken the short way, and is written down already."""
        self.unlearnt.settle()
        self._learn(reading)
        self._contained(REPORTING, self._outlet.told, self._track, reading)
        self.lookout.take(reading, waits=True)
        self._count(reading)

    def _found(self, finding: Finding) -> None:
        self._contained(REPORTING, self._outlet.finding, finding)

    def _learn(self, reading: Reading) -> None:
        # An overflow is a GradScaler at work: nothing to learn from, and no sign of trouble.
        if self._policy is not None and not reading.overflow:
            learn = self._policy.skipped if reading.skipped else self._policy.learn
            for incident in learn(reading):
                self._contained(REPORTING, self._outlet.incident, incident)

    def _count(self, reading: Reading) -> None:
        if self.streak.observe(reading):
            self._end_training(reading)

    def _ruined(self) -> list[str]:
        """Parameters of which this rank's part holds a NaN or an Inf; the host waits, since the training ends."""
        table = self._track.table
        pairs = zip(table.params, table.tensors, strict=True)
        return [info.name for param, info in pairs if not own_part(param.detach()).isfinite().all()]

    def _end_training(self, reading: Reading) -> None:
        tensors = self._track.table.tensors
        names = [tensors[i].name for i in reading.nonfinite.nonzero()[0][::-1]]
        ruined = self._contained("weights check", self._ruined)
        error = self.streak.error(reading, f"in {listed(names)}", ruined)
        incident = Incident(reading.step, "stop", str(error), tuple(names[:16]), self._track.index)
        self._contained(REPORTING, self._outlet.incident, incident)
        raise error
