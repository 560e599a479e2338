"""Watches a guarded run, and goes back to its last good state when the present one is ruined."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from steadygrad.detect.finding import listed
from steadygrad.errors import RecoveryFailed
from steadygrad.measure import Budget, Spending
from steadygrad.records import Incident, Reading
from steadygrad.recover.course import DIVERGENCE, HARM, SPIKES, Course, Question
from steadygrad.recover.giving_up import cause_of, copied_cause, no_help
from steadygrad.recover.keeper import FREE_SHARE, SNAPSHOT_SHARE, Keeper, Snapshot, TooLargeError
from steadygrad.recover.loaded import LoadWatch
from steadygrad.recover.plan import Rollback
from steadygrad.recover.roles import Guarded, Outlet
from steadygrad.recover.signs import STREAK, Signs
from steadygrad.recover.soundness import BUFFER, Inspection
from steadygrad.recover.state import Live, TrainingState
from steadygrad.recover.statistics import untrained
from steadygrad.recover.trial import Trial
from steadygrad.stepping import free_bytes

FORGIVEN = 100
"""Clean steps that make up for one rollback."""
NORMS = 64


class Rescue:
    """Takes copies while the run is well, and puts one back when it isn't.

    Args:
        model: held weakly.
        tracks: its optimizers.
        plan: how to go back.
        overhead: share of the step time that the guard may take in all.
        late: the numbers live on an accelerator.
        outlet: where it tells what it does.
        spending: what steadygrad costs in all.
    """

    KEEPER: type[Keeper] = Keeper

    def __init__(
        self,
        model: nn.Module,
        tracks: Sequence[Guarded],
        plan: Rollback,
        *,
        overhead: float,
        late: bool,
        outlet: Outlet,
        spending: Spending | None = None,
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
        budget = Budget(overhead, share=SNAPSHOT_SHARE, spending=spending)
        self._keeper = self.KEEPER(
            self.state, self._inspection, budget, every=plan.every, max_bytes=self._allowed_bytes
        )
        self._course = Course()
        self._signs = Signs(tracks, self.state, self._inspection, outlet)
        self._norms: list[deque[float]] = [deque(maxlen=NORMS) for _ in tracks]
        self._blind = [0] * len(tracks)
        self._attempts = 0
        self._clean = 0
        self._trial = Trial()
        self._loads = LoadWatch(model, self.state.optimizers, self._wake)
        self._began = self._off = False
        self._put_off: tuple[str, list[str]] | None = None
        # The first batch may ruin the statistics of normalisation layers before the first step is made.
        fresh = untrained(model)
        self._first_buffers = {
            **{name: one.detach().clone() for name, one in self.state.buffers().items()},
            **fresh,
        }
        live = self.state.live()
        known = {name: one for name, one in live.buffers.items() if name not in fresh}
        self._inspection.exempt_nonfinite(replace(live, buffers=known))

    @property
    def is_on(self) -> bool:
        """Whether it goes back at all: not where the copies don't fit, say."""
        return not self._off

    @property
    def memory_bytes(self) -> int:
        """Host memory that the copies take; 0 while there are none, and where they don't fit."""
        return 0 if self._off else self._keeper.nbytes

    @property
    def snapshots(self) -> int:
        """Copies taken after the first."""
        return self._keeper.taken

    @property
    def in_trouble(self) -> bool:
        """Whether the loss is off its course, or a rollback has yet to prove that it helped."""
        return self._course.unsettled or self._trial.running or self._signs.any_streak

    @property
    def usual_loss(self) -> float:
        """Largest loss that it can be told of later."""
        return self._course.limit

    def waits_until(self, optimizer: int) -> float:
        """Step of this optimizer before which plain steps may be told later; 0 where it must hear of the next one."""
        if self._off:
            return math.inf
        awake = self.in_trouble or self._put_off or self._loads.happened or self._keeper.looks
        if awake or not self._began or any(track.brake.on for track in self._tracks):
            return 0.0
        return math.inf if optimizer else self._keeper.next_due(self._tracks[0].lane.step)

    def begins(self) -> None:
        """A step is about to be made: before the first one, the state is copied."""
        if self._began:
            if self._course.elevated:
                self._outlet.wary()
            if self._loads.happened and self._loads.take() and not self._off:
                self._begin_again()
        elif not self._off:
            self._begin()

    def _begin(self) -> None:
        self._began = True
        ill = self._inspection.nonfinite_now(Live({}, self.state.buffers(), [], {}))
        if ill:
            self._repair_first(ill)
        self._first_buffers = {}
        ill = self._inspection.exempt_nonfinite(self.state.live())
        self._signs.meet()
        self._attempt_copy(self._keeper.first, ill=ill)

    def _wake(self) -> None:
        """Have the next step told at once."""
        self._outlet.at_ease = False

    def close(self) -> None:
        """Move nothing any more, and listen to nothing."""
        self.between_steps = True
        self._loads.close()

    def _begin_again(self) -> None:
        """A checkpoint was loaded: what was copied and learnt before belongs to other weights."""
        if self._inspection.nonfinite_now(self.state.live()):
            return
        self._attempt_copy(self._keeper.first, self._tracks[0].lane.step)
        self._course.accept()
        self._trial.end()
        self._signs.forget()

    def scalar(self, step: int, name: str, value: float) -> None:
        """The user has logged a number."""
        if name != "loss" or self._off or step < self._blind[0]:
            return
        self._course.add(value)
        self._trial.add(value)

    def ended(self, index: int) -> None:
        """A step over several ranks has ended; who trains alone has nothing to agree on."""

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
        self._put_off = (trouble, where) if trouble and self._is_between else None
        if trouble and self._put_off is None:
            self._go_back(reading, trouble, where)
        if trouble:
            return
        if reading.skipped:
            # Looked through after a skip, and on the CPU known at once: the loop's moving average comes right after the step.
            ill = [*ill, *self._keeper.ill()]
        if ill:
            self._mend(reading, ill)
        clean = self._is_clean(reading)
        self._note(reading, clean=clean)
        if index == 0 and self._outlet.behind:
            self._keeper.was_made(clean=clean)
        elif index == 0:
            self._attempt_copy(self._keeper.step, self._tracks[0].lane.step, clean=clean)

    @property
    def _is_between(self) -> bool:
        """Whether the training may be between two steps, or others have been made since the one that is told of."""
        return self.between_steps or self._outlet.behind

    def _is_clean(self, reading: Reading) -> bool:
        settled = not self._course.unsettled and not self._trial.running
        return reading.overflow or (not reading.skipped and settled)

    def _trouble(self, reading: Reading, ill: Sequence[str]) -> tuple[str, list[str]]:
        """Why the state is ruined, and where; an empty reason while it isn't."""
        if ill or reading.skipped or reading.param_norms is not None:
            trouble, where = self._signs.ruined(reading, ill)
            if trouble:
                return trouble, where
            if self._count_skips(reading) and not self._signs.input_is_ill(reading):
                return f"{STREAK} steps in a row were non-finite, and the input wasn't", []
        else:  # nearly always
            self._signs.none(reading)
        if self._course.unsettled or not self._trial.idle:
            return self._loss_trouble(reading), []
        return "", []

    def _count_skips(self, reading: Reading) -> bool:
        if reading.skipped:
            self._keeper.look_at_buffers()
        if reading.skipped and not reading.overflow:
            # Is it the weights? Their norms come with the next step.
            self._tracks[reading.optimizer].lane.look_again()
        return self._signs.streak(reading)

    def _loss_trouble(self, reading: Reading) -> str:
        # Giving up may put weights back, and that waits for a step.
        verdict = "" if self._is_between else self._trial.step()
        if verdict == "give up":
            self._give_up(reading)
        elif verdict == "helped":
            self._keeper.drop_ruined()
        return "" if self._trial.pauses() else self._course.trouble(self._lost(reading))

    def _lost(self, reading: Reading) -> int:
        """Steps that going back would cost."""
        good = self._keeper.good
        return 0 if good is None else max(0, self._tracks[reading.optimizer].lane.step - good.step)

    def _give_up(self, reading: Reading) -> None:
        self._accept(reading)

    def _accept(self, reading: Reading) -> None:
        """Going back didn't bring the loss down: then it isn't the weights that have changed."""
        ruined = self._keeper.ruined
        self._course.accept()
        undone = ""
        if ruined is not None:
            self.state.put_back(ruined)
            self._keeper.drop_ruined()
            self._made_anew(self._tracks[reading.optimizer].lane.step)
            undone = ", and the weights from before the rollback are back"
        reason = (
            f"the loss stays high whatever the weights: its new level is accepted{undone}. Has the data or the loss "
            "changed?"
        )
        self._outlet.incident(Incident(reading.step, "release", reason, optimizer=reading.optimizer))

    def _mend(self, reading: Reading, ill: Sequence[str]) -> None:
        """Put back buffers that are non-finite or have jumped, and nothing else: the weights don't depend on them."""
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
            f"{listed(names)} ruined (a bad batch in a normalisation layer does this, or memory that was written to): "
            f"{deed}"
        )
        self._outlet.incident(Incident(step, "repair", reason, tuple(names[:16])))

    def _note(self, reading: Reading, *, clean: bool) -> None:
        """Learn from a step that was well, and let the brake go a little."""
        if not clean or reading.skipped:
            return
        self._norms[reading.optimizer].append(reading.total_norm)
        brake = self._tracks[reading.optimizer].brake
        if brake.on:
            brake.ease()
        self._clean += 1
        if self._attempts and self._clean >= FORGIVEN:
            self._attempts -= 1
            self._clean = 0

    def _go_back(self, reading: Reading, trouble: str, where: Sequence[str]) -> None:
        good = self._keeper.good
        if good is None:
            return
        by_loss = trouble.startswith((DIVERGENCE, SPIKES, HARM))
        cause = [] if by_loss else self._cause_in_copy(where, never=self._never_made(reading))
        if cause:
            self._stop(reading, copied_cause(reading.step, trouble, cause, good.step), where, good)
        if self._attempts >= self._plan.max_rollbacks:
            self._stop(reading, no_help(reading.step, trouble, self._attempts, good.step), where, good)
        lost = self._lost(reading)
        self._outlet.ruined(reading, final=False)
        if by_loss:
            self._keep_ruined()
        else:
            self._keeper.drop_ruined()
        self.state.put_back(good.kept)
        self.rollbacks += 1
        self._course.minds_spikes = self._course.minds_spikes and not trouble.startswith(SPIKES)
        self._attempts += 1
        change = self._change()
        self._forget(good.step)
        if by_loss or self._course.limit < math.inf:
            question = self._course.question if by_loss else Question(self._course.limit)
            self._trial.begin(question, last=trouble.startswith((SPIKES, HARM)))
        reason = f"{trouble}: back to the state of step {good.step:,}, {lost:,} steps lost; {change}"
        told = Incident(reading.step, "rollback", reason, tuple(where[:16]), reading.optimizer)
        self._outlet.incident(told)

    def _keep_ruined(self) -> None:
        self._keeper.keep_ruined()

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
        self._trial.end()
        self._made_anew(step)

    def _made_anew(self, step: int) -> None:
        """The weights are those of another step."""
        for index, track in enumerate(self._tracks):
            # On an accelerator the Reading of the step just made is still under way.
            self._blind[index] = track.lane.step
            track.went_back(step)
        self._signs.forget()

    def _never_made(self, reading: Reading) -> bool:
        return not self._signs.has_made(reading.optimizer)

    def _cause_in_copy(self, where: Sequence[str], *, never: bool) -> list[str]:
        """Of steps left out, with nothing ruined anew, the copy is the cause only where none has ever been made from it."""
        good = self._keeper.good
        if good is None or not (where or never):
            return []
        return cause_of(where, good.ill, self.state.params())

    def _stop(self, reading: Reading, error: RecoveryFailed, where: Sequence[str], good: Snapshot) -> None:
        self._outlet.ruined(reading, final=True)
        self.state.put_back(good.kept)
        incident = Incident(reading.step, "stop", str(error), tuple(where[:16]), reading.optimizer)
        self._outlet.incident(incident)
        raise error

    def _attempt_copy(self, copy: Any, *args: Any, **kwargs: Any) -> None:
        try:
            copy(*args, **kwargs)
        except TooLargeError as error:
            self._cannot(f"{error}. Say recover=sg.recover.rollback(max_bytes=...) to allow more")

    def _cannot(self, why: str) -> None:
        self._off = True
        self._outlet.say("recovery", f"no recovery: {why}.")

    def _allowed_bytes(self) -> float:
        if self._plan.max_bytes is not None:
            return float(self._plan.max_bytes)
        if not self._plan.is_default:
            return math.inf
        return FREE_SHARE * (free_bytes() + self._keeper.nbytes)
