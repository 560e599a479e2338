"""Watches a guarded run, and goes back to its last good state when the present one is ruined."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from steadygrad.detect.finding import listed, make
from steadygrad.errors import RecoveryFailed
from steadygrad.measure import Budget, ParamTable
from steadygrad.policies.base import Policy
from steadygrad.policies.relative import facts_of
from steadygrad.records import Finding, Incident, Reading
from steadygrad.recover.course import SPIKES, Course
from steadygrad.recover.keeper import (
    FREE_SHARE,
    SNAPSHOT_SHARE,
    Keeper,
    Snapshot,
    TooLargeError,
    free_bytes,
    is_concentrated,
)
from steadygrad.recover.plan import Rollback
from steadygrad.recover.soundness import BUFFER, Inspection
from steadygrad.recover.state import Live, Trained, TrainingState
from steadygrad.recover.weights import WeightWatch
from steadygrad.stepping import Brake, Lane

STREAK = 5
"""Skipped steps in a row that say the weights make the NaN: two or three bad batches in a row do happen."""
FORGIVEN = 100
"""Clean steps that make up for one rollback."""
PAUSE = 16
"""Steps for which the loss is left alone after a rollback that didn't bring it down: the data may be ill."""
TRIAL = 4
"""Losses after a rollback that tell whether it has helped."""
RARE = 64
"""Steps after which a trial ends whether enough losses were logged or not."""
NORMS = 64


class Guarded(Trained, Protocol):
    """One optimizer as recovery needs it."""

    index: int
    table: ParamTable
    lane: Lane
    brake: Brake
    policy: Policy | None

    def went_back(self, step: int) -> None:
        """Take note that weights and state have been put back to those of ``step``."""


class Outlet(Protocol):
    """Where recovery tells what it does."""

    findings: list[Finding]

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


class Rescue:
    """Takes copies while the run is well, and puts one back when it isn't.

    Args:
        model: held weakly.
        tracks: its optimizers.
        plan: how to go back.
        overhead: share of the step time that the guard may take in all.
        late: the numbers live on an accelerator.
        outlet: where it tells what it does.
    """

    def __init__(
        self,
        model: nn.Module,
        tracks: Sequence[Guarded],
        plan: Rollback,
        *,
        overhead: float,
        late: bool,
        outlet: Outlet,
    ) -> None:
        # Somebody asks between two steps, perhaps between forward and backward: weights must not move then.
        self.between_steps = False
        self.rollbacks = 0
        self.repairs = 0
        self._tracks = tracks
        self._plan = plan
        self._outlet = outlet
        self.state = TrainingState(model, tracks, plan)
        self._inspection = Inspection(late=late)
        self._keeper = Keeper(
            self.state,
            self._inspection,
            Budget(overhead, share=SNAPSHOT_SHARE),
            every=plan.every,
            max_bytes=self._allowed_bytes,
        )
        self._course = Course()
        self._watches = [WeightWatch(track.table.tensors) for track in tracks]
        self._norms: list[deque[float]] = [deque(maxlen=NORMS) for _ in tracks]
        self._streaks = [0] * len(tracks)
        self._blind = [0] * len(tracks)
        self._attempts = 0
        self._clean = 0
        self._trial: list[float] | None = None
        self._pause = 0
        self._unhelped = 0
        self._since = 0
        self._began = self._off = False
        self._put_off: tuple[str, list[str]] | None = None
        self._inspection.exempt_nonfinite(self.state.live())
        # The first batch may ruin the statistics of normalisation layers before the first step is made.
        self._first_buffers = {name: one.detach().clone() for name, one in self.state.buffers().items()}

    @property
    def memory_bytes(self) -> int:
        """Host memory that the copies take."""
        return self._keeper.nbytes

    @property
    def snapshots(self) -> int:
        """Copies taken after the first."""
        return self._keeper.taken

    @property
    def in_trouble(self) -> bool:
        """Whether the loss is off its course, or a rollback has yet to prove that it helped."""
        return self._course.elevated or self._trial is not None or any(self._streaks)

    def begins(self) -> None:
        """A step is about to be made: before the first one, the state is copied."""
        if self._began and self._course.elevated:
            self._outlet.wary()
        if self._began or self._off:
            return
        self._began = True
        ill = self._inspection.nonfinite_now(Live({}, self.state.buffers(), [], {}))
        if ill:
            self._repair_first(ill)
        self._first_buffers = {}
        self._inspection.exempt_nonfinite(self.state.live())
        for watch, track in zip(self._watches, self._tracks, strict=True):
            watch.meet(track.table.tensors)
        self._attempt_copy(self._keeper.first)

    def scalar(self, step: int, name: str, value: float) -> None:
        """The user has logged a number."""
        if name != "loss" or self._off or step < self._blind[0]:
            return
        self._course.add(value)
        if self._trial is not None:
            self._trial.append(value)

    def stepped(self, reading: Reading) -> None:
        """A step has ended.

        Raises:
            RecoveryFailed: going back doesn't help.
        """
        index = reading.optimizer
        if self._off or not self._began or reading.step < self._blind[index]:
            return
        ill = self._keeper.ill()
        trouble, where = self._put_off or self._trouble(reading, ill)
        self._put_off = (trouble, where) if trouble and self.between_steps else None
        if trouble and self._put_off is None:
            self._go_back(reading, trouble, where)
        if trouble:
            return
        self._mend(reading, ill)
        clean = reading.overflow or (
            not reading.skipped and not self._course.elevated and self._trial is None
        )
        self._note(reading, clean=clean)
        if index == 0:
            self._attempt_copy(self._keeper.step, self._tracks[0].lane.step, clean=clean)

    def _trouble(self, reading: Reading, ill: Sequence[str]) -> tuple[str, list[str]]:
        """Why the state is ruined, and where; an empty reason while it isn't."""
        track = self._tracks[reading.optimizer]
        suspects = self._suspects(reading, track)
        if reading.param_norms is not None:
            bad = self._names(
                track, [i for i, norm in enumerate(reading.param_norms) if not math.isfinite(norm)]
            )
            if bad:
                return f"non-finite parameters in {listed(bad)}", bad
        deep = [name for name in ill if not name.startswith(f"{BUFFER} ")]
        if deep:
            self._tell_corrupt(reading, deep)
            return f"impossible or non-finite numbers in {listed(deep)}", deep
        struck = self._names(track, [i for i in suspects if is_concentrated(track.table.params[i])])
        if struck:
            return (
                f"{listed(struck)} grew in a few elements, by more than the updates can have moved them",
                struck,
            )
        if self._count_skips(reading, track):
            return f"{STREAK} steps in a row were non-finite, and the input wasn't", []
        return self._loss_trouble(reading), []

    def _suspects(self, reading: Reading, track: Guarded) -> list[int]:
        optimizer = track.optimizer
        watch = self._watches[reading.optimizer]
        if optimizer is None:
            return []
        if len(watch) != len(track.table):
            watch.meet(track.table.tensors)
        if reading.param_norms is None:  # nearly always: then there is nothing to compare
            watch.suspects(reading, "other", 0.0)
            return []
        facts = facts_of(track.table.hyper(optimizer.param_groups))
        found: list[int] = watch.suspects(reading, facts.kind, facts.momentum).tolist()
        return found

    def _names(self, track: Guarded, positions: Sequence[int]) -> list[str]:
        names = [track.table.tensors[i].name for i in positions if i < len(track.table)]
        return [name for name in names if not self._inspection.is_exempt(name)]

    def _count_skips(self, reading: Reading, track: Guarded) -> bool:
        index = reading.optimizer
        if not reading.skipped:
            self._streaks[index] = 0
            return False
        if reading.overflow:
            return False
        # Is it the weights? Their norms come with the next step.
        track.lane.look_again()
        self._keeper.look_at_buffers()
        self._streaks[index] += 1
        began = reading.step - self._streaks[index]
        input_is_ill = any(f.kind == "nonfinite_input" and f.step > began for f in self._outlet.findings)
        return self._streaks[index] == STREAK and not input_is_ill

    def _loss_trouble(self, reading: Reading) -> str:
        self._since += 1
        if self._trial is not None:
            if len(self._trial) < TRIAL and self._since < RARE:
                return ""
            self._trial += [self._course.limit] * (TRIAL - len(self._trial))
            helped = sorted(self._trial)[TRIAL // 2] <= self._course.limit
            self._trial = None
            self._unhelped = 0 if helped else self._unhelped + 1
            self._pause = 0 if helped else PAUSE
            if self._unhelped > 1:
                self._accept(reading)
        if self._pause > 0:
            self._pause -= 1
            return ""
        return self._course.trouble()

    def _accept(self, reading: Reading) -> None:
        """Two rollbacks didn't bring the loss down: then it isn't the weights that have changed."""
        self._unhelped = self._pause = 0
        self._course.accept()
        reason = "the loss stays high whatever the weights: its new level is accepted. Has the data or the loss changed?"
        self._outlet.incident(Incident(reading.step, "release", reason, optimizer=reading.optimizer))

    def _mend(self, reading: Reading, ill: Sequence[str]) -> None:
        """Put back buffers that are non-finite, and nothing else: the weights don't depend on them."""
        names = [name.removeprefix(f"{BUFFER} ") for name in ill if name.startswith(f"{BUFFER} ")]
        good = self._keeper.good
        if not names or good is None:
            return
        self.state.repair(good.kept, names)
        self._tell_repair(reading.step, names, f"those of step {good.step} put back")

    def _repair_first(self, ill: Sequence[str]) -> None:
        names = [name.removeprefix(f"{BUFFER} ") for name in ill]
        buffers = self.state.buffers()
        for name in names:
            before: Tensor | None = self._first_buffers.get(name)
            if before is not None and before.shape == buffers[name].shape:
                buffers[name].detach().copy_(before)
        self._tell_repair(0, names, "those of the untrained model put back")

    def _tell_repair(self, step: int, names: list[str], deed: str) -> None:
        self.repairs += 1
        reason = (
            f"non-finite buffers in {listed(names)} (a bad batch in a normalisation layer does this): {deed}"
        )
        self._outlet.incident(Incident(step, "repair", reason, tuple(names[:16])))

    def _tell_corrupt(self, reading: Reading, names: list[str]) -> None:
        kind = "nonfinite_parameter" if names[0] in self.state.params() else "optimizer_state_corrupt"
        summary = f"impossible or non-finite numbers in {listed(names)}"
        self._outlet.finding(make(kind, "error", reading.step, summary, where=names, guarded=True))

    def _note(self, reading: Reading, *, clean: bool) -> None:
        """Learn from a step that was well, and let the brake go a little."""
        if not clean or reading.skipped:
            return
        self._norms[reading.optimizer].append(reading.total_norm)
        self._tracks[reading.optimizer].brake.ease()
        self._clean += 1
        if self._attempts and self._clean >= FORGIVEN:
            self._attempts -= 1
            self._clean = 0

    def _go_back(self, reading: Reading, trouble: str, where: Sequence[str]) -> None:
        good = self._keeper.good
        if good is None:
            return
        if self._attempts >= self._plan.max_rollbacks:
            self._stop(reading, trouble, where, good)
        lost = max(0, self._tracks[reading.optimizer].lane.step - good.step)
        self._outlet.ruined(reading, final=False)
        self.state.put_back(good.kept)
        self.rollbacks += 1
        self._course.minds_spikes = self._course.minds_spikes and not trouble.startswith(SPIKES)
        self._attempts += 1
        change = self._change()
        self._forget(good.step)
        reason = f"{trouble}: back to the state of step {good.step:,}, {lost:,} steps lost; {change}"
        told = Incident(reading.step, "rollback", reason, tuple(where[:16]), reading.optimizer)
        self._outlet.incident(told)

    def _change(self) -> str:
        """Do something differently this time: more with each attempt."""
        if self._attempts == 1:
            return "the batches since are left behind"
        rate = 0.5 ** max(0, self._attempts - 2)
        caps = [sorted(norms)[len(norms) // 2] if norms else math.inf for norms in self._norms]
        for track, cap in zip(self._tracks, caps, strict=True):
            track.brake.put_on(cap, rate)
        told = f"gradients capped at {listed([f'{cap:.3g}' for cap in caps])}"
        return told if rate == 1.0 else f"{told}, learning rate x {rate:g}"

    def _forget(self, step: int) -> None:
        """What was under way belongs to weights that are gone."""
        self._keeper.went_back()
        self._course.went_back()
        self._clean = 0
        self._since = 0
        self._trial = [] if self._course.limit < math.inf else None
        for index, track in enumerate(self._tracks):
            # On an accelerator the Reading of the step just made is still under way.
            self._blind[index] = track.lane.step
            self._watches[index].forget()
            track.went_back(step)

    def _stop(self, reading: Reading, trouble: str, where: Sequence[str], good: Snapshot) -> None:
        self._outlet.ruined(reading, final=True)
        self.state.put_back(good.kept)
        error = RecoveryFailed(
            f"stopped at step {reading.step}: {trouble}. {self._attempts} rollbacks in a row, the last ones with "
            f"gradients capped at their usual norm and the learning rate down to 1/{2 ** max(0, self._attempts - 2)}, "
            f"didn't help, so going on would only hide the fault. The state is that of step {good.step:,}. Look at the findings of guard.summary(), try a lower "
            "learning rate, or allow more with recover=sg.recover.rollback(max_rollbacks=...)."
        )
        incident = Incident(reading.step, "stop", str(error), tuple(where[:16]), reading.optimizer)
        self._outlet.incident(incident)
        raise error

    def _attempt_copy(self, copy: Any, *args: Any, **kwargs: Any) -> None:
        try:
            copy(*args, **kwargs)
        except TooLargeError as error:
            self._off = True
            self._outlet.say(
                "recovery",
                f"no recovery: {error}. Say recover=sg.recover.rollback(max_bytes=...) to allow more.",
            )

    def _allowed_bytes(self) -> float:
        if self._plan.max_bytes is not None:
            return float(self._plan.max_bytes)
        if not self._plan.is_default:
            return math.inf
        return FREE_SHARE * (free_bytes() + self._keeper.nbytes)
