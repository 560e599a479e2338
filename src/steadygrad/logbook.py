"""What a monitor has seen: counted, kept, recorded in the run file, shown on stderr.

The tracks write into it; whoever wants to act on a step listens (`Logbook.listeners`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from torch import nn

from steadygrad.containment import Containment
from steadygrad.course import PART as COURSE
from steadygrad.course import Course
from steadygrad.forensics import Forensics
from steadygrad.later import Later
from steadygrad.measure import Spending
from steadygrad.notices import Notices
from steadygrad.origin import Origin
from steadygrad.own_clip import OwnClip
from steadygrad.recording import Recorder
from steadygrad.records import Finding, Incident, Look, Reading, TensorInfo
from steadygrad.recover import Rollback, Witness, as_allowed
from steadygrad.refusal import Deaths
from steadygrad.runfile.own_numbers import LOCAL_NORM
from steadygrad.scalars import Scalars, give_loss
from steadygrad.signals import SignalProbe
from steadygrad.stepping import REPORTING, Track, Waiter
from steadygrad.summary import Counts, where_nonfinite

RECENT_READINGS = 256
MAX_FINDINGS = 1000
LISTENING = "listening"
BUNDLES = "incident bundles"

Listener = Callable[[Reading], None]
Teller = Callable[[Finding], Finding]
ScalarListener = Callable[[int, str, float], None]
Starter = Callable[[], None]
Ender = Callable[[int], None]


class Sink(Protocol):
    """Where steps, logged numbers and findings go besides; see `steadygrad.sinks`."""

    def reading(self, reading: Reading, tensors: Sequence[TensorInfo]) -> None:
        """A step has ended."""

    def number(self, step: int, name: str, value: float) -> None:
        """A number was logged."""

    def finding(self, finding: Finding) -> None:
        """Something was found."""

    def close(self) -> None:
        """The run has ended."""


class Logbook:
    """The outlet of all tracks of one monitor.

    Attributes:
        counts: steps seen, clipped, skipped.
        findings: oldest first, at most `MAX_FINDINGS`.
        recent: the newest Readings, oldest first.
        faults: parts of steadygrad's own that were switched off, and why.
        spending: what all of this costs the training.
        scalars: the numbers a user logs.
        containment: holds back faults of steadygrad's own.
        recorder: writes the run file; None records nothing.
        forensics: explains a non-finite step; None where that has failed.
        signals: listens inside the model; None where `listen` wasn't called.
        witness: writes incident bundles; None where `keep_bundles` wasn't called, or nothing is recorded.
        listeners: pairs of the name of a part and what it does after each step, in order.
        tellers: each finding passes through them before it is kept: whoever knows the data adds what
            it knows.
        sinks: pairs of the name of a part and the sink.
        scalar_listeners: the same for each number that is logged: step, name, value.
        starters: the same for what is to be done before each step.
        enders: the same for what several ranks do together when an optimizer's step has ended.
        waiters: who of the listeners need be told of a plain step at once, and when.
        at_ease: plain steps and ordinary numbers are told later, a few at a time.
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self.findings: list[Finding] = []
        self.recent: deque[Reading] = deque(maxlen=RECENT_READINGS)
        self.faults: list[str] = []
        self.spending = Spending()
        self.scalars = Scalars(self._on_scalar, self._on_loss)
        self.containment = Containment(self.fault)
        self.contained = self.containment.run
        self.recorder: Recorder | None = None
        self.forensics: Forensics | None = None
        self.listeners: list[tuple[str, Listener]] = []
        self.tellers: list[Teller] = []
        self.sinks: list[tuple[str, Sink]] = []
        self.signals: SignalProbe | None = None
        self.witness: Witness | None = None
        self._course = Course(self.containment, self.finding)
        self._own_clip = OwnClip(self.finding)
        self.scalar_listeners: list[tuple[str, ScalarListener]] = []
        self.starters: list[tuple[str, Starter]] = []
        self.enders: list[tuple[str, Ender]] = []
        self._notices = Notices()
        self._newest_loss = (-1, math.nan)
        self._deaths = Deaths()
        self.waiters: list[Waiter] = []
        self.at_ease = False
        self._usual_loss = -math.inf
        self._later = Later(Track.tell, self._tell_number, Track.look_through, self.contained)

    def listen(self, model: nn.Module, *, overhead: float, guarded: bool) -> None:
        """Listen to the signals inside a model too, on a few steps."""
        self.signals = SignalProbe(
            model, self, self.containment, overhead=overhead, guarded=guarded, spending=self.spending
        )
        self.listeners.append((LISTENING, self.signals.after_step))

    def keep_bundles(self, model: nn.Module, tracks: Sequence[Track], plan: Rollback) -> None:
        """Have a guard write a bundle beside the run file when something goes wrong."""
        recorder, forensics = self.recorder, self.forensics
        if recorder is None or forensics is None or tracks[0].policy is None:
            return
        limits = as_allowed(plan.bundles)
        if not limits.max_bytes:
            return
        about = recorder.about()
        make = partial(Witness, model, tracks, plan, limits, forensics.capture, recorder.path, about, self)
        self.witness = self.contained(BUNDLES, make)

    def deliver(self) -> None:
        """Take in what has waited, and what has arrived from the device."""
        self.settle()
        if self.signals is not None:
            self.contained(LISTENING, self.signals.deliver)
        self.scalars.deliver()
        self.contained(COURSE, self._course.settle)

    def say(self, key: str, text: str) -> None:
        """One line on stderr, rate limited."""
        self._notices.say(key, text)

    def fault(self, text: str) -> None:
        """A part of steadygrad's own has been switched off."""
        self.faults.append(text)
        self.say(f"fault {len(self.faults)}", text)

    @property
    def behind(self) -> bool:
        """Whether a step is being told of after which others have been made, or while one is under way."""
        return self._later.behind

    def free_until(self, track: Track) -> float:
        """Step of this track before which plain steps may be told late; from here on, where there is one, they are."""
        until = min([waiter.waits_until(track.index) for waiter in self.waiters], default=math.inf)
        if self.signals is not None:
            until = min(until, self.signals.waits_until(track.index, track.lane.step))
        self.at_ease = until > 0.0 and REPORTING not in self.containment.off
        self._usual_loss = min([self._course.usual_loss, *(waiter.usual_loss for waiter in self.waiters)])
        return until

    def passes(self, track: Track) -> None:
        """A plain step is about to be made: its batch belongs to it."""
        if self.forensics is not None:
            self.contained("tracing", self.forensics.begins, track.index)
        if self.witness is not None:
            self.contained(BUNDLES, self.witness.begins, track.index, track.lane.step)

    def passed(self, track: Track, reading: Reading) -> None:
        """It has been made: write it down, the rest waits."""
        self._later.add((track, self._recorded(track, reading)))

    def settle(self, *, ended: bool = False) -> None:
        """Tell of what has waited; ``ended``: the newest of the steps has just ended."""
        self._later.settle(ended=ended)

    def begins(self, track: Track) -> None:
        """A step is about to be measured."""
        for part, starter in self.starters:
            self.contained(part, starter)
        self.passes(track)

    def reading(self, track: Track, reading: Reading) -> None:
        """A step has ended: record it, count it, keep it, show a skip."""
        if self.scalars.reads.waiting:
            self.scalars.deliver()
        self.settle()
        self.told(track, self._recorded(track, reading))

    def _recorded(self, track: Track, reading: Reading) -> Reading:
        """The Reading with its loss, where that has come; written down."""
        if reading.loss is None and self._newest_loss[0] == reading.step:
            reading = replace(reading, loss=self._newest_loss[1])
        if self.recorder is not None:
            self.contained("recording", self.recorder.append, track.index, reading)
        # At once, too: a logger may have a row of its own for each step.
        for part, sink in self.sinks:
            self.contained(part, sink.reading, reading, track.table.tensors)
        return reading

    def told(self, track: Track, reading: Reading) -> None:
        """A step has ended and is written down."""
        self.counts.add(reading)
        if reading.skipped and not reading.overflow:
            where = where_nonfinite(reading, track.table.tensors)
            text = f"step {reading.step}: skipped, non-finite gradient in {where}"
            self.contained("notices", self.say, "skip", text)
        self.recent.append(reading)
        if track.index == 0:
            self.contained(COURSE, self._course.step, reading, track.context)
            self._own_clip.step(reading, track.context)
        for part, listener in self.listeners:
            self.contained(part, listener, reading)

    def ended(self, track: Track) -> None:
        """A step over several ranks has ended."""
        for part, ender in self.enders:
            self.contained(part, ender, track.index)

    def skipped(self, reading: Reading) -> None:
        """A step was left out, and all that is found of it is known."""
        if self.witness is not None:
            self.contained(BUNDLES, self.witness.skipped, reading)

    def wary(self) -> None:
        """The step about to be made may end in a rollback."""
        if self.witness is not None:
            self.witness.wary = True

    def ruined(self, reading: Reading, *, final: bool) -> None:
        """The state is about to be put back."""
        if self.witness is not None:
            self.contained(BUNDLES, partial(self.witness.ruined, reading, final=final))

    def origin(self, optimizer: int, step: int) -> Origin | None:
        """Where a step's fault began, as far as it was looked for."""
        return None if self.forensics is None else self.forensics.origin(optimizer, step)

    def explain(self, step: int, origin: Origin) -> None:
        """Somebody knows where the fault of a step of the first optimizer began."""
        if self.forensics is not None:
            self.forensics.explain(0, step, origin)

    @property
    def records(self) -> bool:
        """Whether a run file is being written."""
        return self.recorder is not None

    def own_norm(self, step: int, norm: float) -> None:
        """Write down what this rank's gradient was before it was reduced."""
        if self.recorder is not None:
            self.contained("recording", self.recorder.scalar, step, LOCAL_NORM, norm)

    def finding(self, finding: Finding) -> None:
        """A detector has found something: keep it, record it, show it unless it is only for the record."""
        if self.forensics is not None:
            finding = self.contained("tracing", self.forensics.told, finding) or finding
        self.keep(finding)

    def keep(self, finding: Finding) -> None:
        """The same, of one that says by itself where it began."""
        for teller in self.tellers:
            finding = self.contained("telling", teller, finding) or finding
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        if finding.severity != "info":
            self.say(finding.kind, str(finding))
        if self.recorder is not None:
            self.contained("recording", self.recorder.finding, finding)
        for part, sink in self.sinks:
            self.contained(part, sink.finding, finding)

    def look(self, look: Look) -> None:
        """The signals inside the model were listened to: record a few numbers of them."""
        if self.recorder is not None:
            self.contained("recording", self.recorder.look, look)

    def incident(self, incident: Incident) -> None:
        """Something was done: record it, show it, after what was found before."""
        self.at_ease = False
        self.contained(COURSE, self._course.settle)
        if incident.action == "engage" and self.counts.engaged_at is None:
            self.counts.engaged_at = incident.step
        self.counts.rollbacks += incident.action == "rollback"
        self.counts.repairs += incident.action == "repair"
        first_sentence = incident.reason.partition(". ")[0].rstrip(".")
        self.say(incident.action, f"step {incident.step}: {incident.action}: {first_sentence}")
        if self.recorder is not None:
            self.contained("recording", self.recorder.incident, incident)
        if self.witness is not None:
            self.contained(BUNDLES, self.witness.incident, incident)

    def nonfinite(self, track: Track) -> None:
        """The step about to be made is non-finite: find out where that began."""
        if self.forensics is not None:
            peers = None if track.lane.ranks is None else track.lane.ranks.peers
            replicated = peers is not None and peers.replicated
            late = self.forensics.look(track.index, track.lane.step, peers if replicated else None)
            if late is not None:
                self.finding(late)

    def grown(self, track: Track, tensors: Sequence[TensorInfo]) -> None:
        """Parameters have joined an optimizer."""
        if track.index == 0:
            self.contained(COURSE, self._course.extend, tensors)
        if self.recorder is not None:
            self.contained("recording", self.recorder.add, track.index, tensors)

    def close(self) -> None:
        """Let go of the model, write what is left, close the run file."""
        self.deliver()
        if self.forensics is not None:
            self.contained("last words", self._last_words, self.forensics)
            self.contained("end of tracing", self.forensics.close)
        if self.witness is not None:
            self.contained("end of the incident bundles", self.witness.close)
        if self.signals is not None:
            self.contained("end of listening", self.signals.close)
        if self.recorder is not None:
            # A part of its own: what was written before a fault must still reach the file.
            self.contained("closing of the run file", self.recorder.close)
        for part, sink in self.sinks:
            self.contained(f"closing of the {part}", sink.close)
        self._notices.flush()

    def _last_words(self, forensics: Forensics) -> None:
        """A script may have died of numbers that a loss or a distribution refused: no step tells of them."""
        told = any(one.kind.startswith("nonfinite_") for one in self.findings)
        if told or self._deaths.refusal() is None:
            return
        found = forensics.last_words(self.counts.steps)
        if found is not None:
            self.finding(found)

    def _on_scalar(self, step: int, name: str, value: float) -> None:
        is_loss = name == "loss"
        if is_loss:
            self._newest_loss = (step, value)
        if self.recorder is not None:
            self.contained("recording", self.recorder.scalar, step, name, value)
        for part, sink in self.sinks:
            self.contained(part, sink.number, step, name, value)
        if self.at_ease and not (is_loss and not value <= self._usual_loss):
            self._later.add((step, name, value))
            return
        self.settle()
        self.at_ease = False
        self._tell_number(step, name, value)

    def _on_loss(self, made: tuple[int, ...], value: float) -> None:
        if self.forensics is None:
            return
        if math.isfinite(value):
            self.forensics.unstepped.finite(made)
            return
        found = self.contained("tracing", self.forensics.loss, made, value)
        if found is not None:
            self.keep(found)

    def _tell_number(self, step: int, name: str, value: float) -> None:
        if name == "loss":
            given = give_loss(self.recent, step, value)
            self.contained(COURSE, self._course.loss, step, value, given)
        self.contained("detection by the clip", self._own_clip.number, step, name, value)
        for part, listener in self.scalar_listeners:
            self.contained(part, listener, step, name, value)
