"""One optimizer under watch: measure its step, have it judged, hand on a Reading.

Shape legend: P parameters of this optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from steadygrad.containment import Containment
from steadygrad.errors import TrainingStopped
from steadygrad.measure import LateReads, Measurement, Measurer, ParamTable, Spending, is_sharded
from steadygrad.policies.base import Policy
from steadygrad.policies.relative import facts_of
from steadygrad.ranks import OwnParts, Ranks
from steadygrad.records import FloatArray, Reading
from steadygrad.stepping.apply import ClipCall, HandLoop
from steadygrad.stepping.arrears import Arrears
from steadygrad.stepping.judge import Treatment, Verdict, judge_again, judge_on_device, judge_on_host
from steadygrad.stepping.moves import Moves
from steadygrad.stepping.packet import pack, unpack
from steadygrad.stepping.under_way import Sent, StepUnderWay
from steadygrad.stepping.undo import descends

_NO_NORMS: FloatArray = np.zeros(0, np.float32)


class Lane:
    """Measures, judges and treats the steps of one optimizer, or of a loop without one.

    Args:
        index: index of the optimizer in its monitor.
        table: the parameters.
        policy: what to do with the gradients; None only watches.
        late: the gradients live on an accelerator.
        overhead: share of the step time that may be spent in all; spaces the probes of how far steps move.
        on_reading: receives each Reading, aligned with ``table``.
        on_owed: receives a Reading again, at the end of the next step, that was handed on between two steps: over
            ranks nothing may be learnt then, since the others haven't asked.
        on_nonfinite: called before a step that the host knows to be non-finite, while the weights are
            still those that made it.
        unlearnt: Readings that the policy is told of later; it must know them all before it judges a step.
        containment: holds back faults of what only observes: they must not cost the step its verdict.
        clock: seconds since the run began.
        spending: what steadygrad costs in all.
    """

    def __init__(
        self,
        index: int,
        table: ParamTable,
        policy: Policy | None,
        *,
        late: bool,
        overhead: float,
        on_reading: Callable[[Reading], None],
        on_owed: Callable[[Reading], None],
        on_nonfinite: Callable[[], None],
        unlearnt: Arrears,
        containment: Containment,
        clock: Callable[[], float],
        spending: Spending | None = None,
    ) -> None:
        self.index = index
        self.table = table
        self.policy = policy
        self.step = 0
        self.loss: float | None = None
        self.treatment: Treatment = HandLoop()
        self._late = late
        self._judge = judge_on_device if late else judge_on_host
        self._on_reading = on_reading
        self._on_owed = on_owed
        self._owed: tuple[object, Reading] | None = None
        self.early = False
        self._on_nonfinite = on_nonfinite
        self.unlearnt = unlearnt
        self.left_alone = False
        self._contained = containment.run
        self.stop: TrainingStopped | None = None
        self.clock = clock
        self._descends = False
        self._param_norms = policy is not None and policy.needs_param_norms
        self.measurer = Measurer(table, late=late, param_norms=self._param_norms)
        self._reads: LateReads[Sent] = LateReads()
        self._spending = spending or Spending()
        self._moves = Moves(table, self.measurer, overhead, self._spending, containment.run)
        self._now: StepUnderWay | None = None
        self._moving: StepUnderWay | None = None
        self.ranks: Ranks | None = None

    def ruined(self) -> list[str]:
        """Names of the parameters that hold a NaN or an Inf now; the host waits for the answer."""
        # A norm of a sharded parameter is a sum over all ranks, and this one may be alone in asking.
        if any(map(is_sharded, self.table.params)) or not len(self.table):
            return []
        norms = self.measurer.norms_of(self.table.params)
        bad = np.flatnonzero(~np.isfinite(norms.cpu().numpy())).tolist()
        return [self.table.tensors[i].name for i in bad]

    def join(self, ranks: Ranks) -> None:
        """Measure together with the other ranks from here on."""
        self.ranks = self.measurer.together = ranks

    def own_parts(self) -> None:
        """Measure this rank's parts and wait for nobody: some of the others aren't there."""
        self.measurer.together = OwnParts()

    def free_until(self) -> float:
        """Step before which nothing but gradients is to be measured, by this process alone; 0 where the next is no plain one."""
        if self._late or self._descends or self.measurer.together is not None:
            return 0.0
        # Where a policy learns from parameter norms, probes come with those.
        probe = math.inf if self._param_norms else self._moves.budget.next_due
        return min(self.step + self.measurer.param_norms_due, probe)

    def resume(self, now: StepUnderWay) -> None:
        """A step that was measured elsewhere goes on here."""
        self._now = now

    def count(self) -> None:
        """A step has been made."""
        self.step += 1
        self._spending.step_ended()

    def leave(self) -> None:
        """Tell the other ranks that this one measures no more."""
        if self.ranks is not None:
            self.ranks.leave(param_norms=self.measurer.joins_param_norms)

    def grow(self) -> None:
        """Take note that parameters were appended to the table."""
        self.measurer.grow()

    @property
    def newest_param_norms(self) -> Tensor | None:
        """Norms of the parameters as they were last measured."""
        return self.measurer.newest_param_norms

    def catch_up(self) -> None:
        """Hand on what is under way from the device: of the parameters as they are now, before others join."""
        self._hand_on()
        self._settle()

    def look_again(self) -> None:
        """Measure the parameters' norms at the next step: something has happened to them."""
        self.measurer.expire_param_norms()

    def go_on(self) -> None:
        """The step that a `ClipCall` has judged begins: carry out the skip it has put off."""
        now, treatment = self._now, self.treatment
        if now is None or not isinstance(treatment, ClipCall):
            return
        if self.loss is not None:  # logged since: before the step, but after the clip
            now.reading, self.loss = replace(now.reading, loss=self.loss), None
        if now.verdict.skipped:
            treatment.leave_out(now.measurement)
        treatment.leave_out_where()
        if treatment.under_scaler and (self._late or not math.isfinite(now.reading.total_norm)):
            now.reading = replace(now.reading, skipped=not self._late, overflow=True)

    def pass_over(self, *, surely: bool = False) -> None:
        """The step that has been measured never came: a ``GradScaler`` left it out by itself, ``surely`` or as it seems."""
        now = self._now
        if now is None or not (surely or now.verdict.skipped):
            self.abandon()
            return
        self._moves.forget(now)
        now.reading = replace(now.reading, skipped=now.verdict.skipped or not self._late, overflow=True)
        self.end()

    @property
    def under_way(self) -> bool:
        """Whether a step has begun and not ended."""
        return self._now is not None

    @property
    def skipping(self) -> bool:
        """Whether the step under way is being left out, as far as the host knows."""
        return self._now is not None and self._now.verdict.skipped

    def begin(self, groups: Sequence[Mapping[str, Any]], treatment: Treatment) -> Measurement:
        """The gradients of a step are ready: measure them and have the verdict carried out.

        Args:
            groups: the optimizer's parameter groups, empty without one.
            treatment: carries the verdict out.

        Returns:
            What was measured, before any scaling.

        Raises:
            TrainingStopped: a Reading handed on by `deliver` has ended the training.
        """
        if self.stop is not None:
            stop, self.stop = self.stop, None
            raise stop
        self._has_moved()
        self.treatment = treatment
        measurement = self.measurer.measure(groups, treatment.loss_scale, self.step)
        measurement.param_norms = self._contained("parameter norms", self.measurer.fresh_param_norms)
        verdict = self._judged(measurement, treatment)
        if not verdict.overflow and (verdict.skipped or not math.isfinite(measurement.known_total or 0.0)):
            self._contained("tracing", self._on_nonfinite)
        reading = Reading(
            step=self.step,
            norms=_NO_NORMS if self._late else measurement.host_norms(),
            total_norm=measurement.known_total or 0.0,
            absent=self.table.absent_on_all(measurement.absent),
            clip_coef=verdict.clip_coef,
            cap=verdict.cap,
            skipped=verdict.skipped,
            overflow=verdict.overflow,
            lr=facts_of(measurement.groups).lr,
            lr_factor=verdict.lr_factor,
            optimizer=self.index,
            loss=self.loss,
            time_s=self.clock(),
        )
        self.loss = None
        fresh = measurement.param_norms if self.measurer.refreshed_param_norms else None
        self._now = StepUnderWay(measurement, verdict, reading, param_norms=fresh)
        # A policy learns from parameter norms, and probes come when the clock allows: were they to
        # bring norms of their own, the same seed would not give the same run twice.
        fits = fresh is not None or not self._param_norms
        # Beside a whole descent, whose length nothing bounds, the probe is cheap.
        self._moves.begins(self._now, always=self._descends, fits=fits and not verdict.skipped)
        return measurement

    def _judged(self, measurement: Measurement, treatment: Treatment) -> Verdict:
        policy = self.policy
        self.left_alone = False
        if policy is None:
            return self._watched(measurement)
        known = measurement.known_total
        counts = measurement.grads or measurement.elsewhere
        # After a look at the weights it is worked out anew, or the cap that is recorded would be of long ago.
        if known is not None and counts and not (self.unlearnt.full or self.measurer.refreshed_param_norms):
            self.left_alone = known < math.inf and known <= policy.leaves_alone_up_to(measurement)
            if self.left_alone:
                return Verdict(cap=policy.cap)
        self.unlearnt.settle()
        return self._judge(measurement, policy, treatment)

    def again(self, groups: Sequence[Mapping[str, Any]]) -> bool:
        """A closure was evaluated once more in the same step: judge those gradients too.

        The Reading stays that of the first evaluation, unless a later one turns out non-finite; only the
        smallest factor applied is taken over.

        Returns:
            Whether the step can go on.
        """
        now = self._now
        if now is None:
            return True
        self._descends = self._descends or descends(groups)
        if not self._descends:  # such a step may go anywhere and come back: its length says nothing
            self._moves.forget(now)
        measurement = self.measurer.measure(groups, self.treatment.loss_scale, self.step)
        if self.policy is None:
            verdict = self._watched(measurement)
        else:
            verdict = judge_again(measurement, self.policy, self.treatment, now.verdict)
        if not verdict.skipped:
            if self.policy is not None and verdict is not now.verdict:
                now.verdict = verdict
                now.reading = replace(now.reading, clip_coef=verdict.clip_coef)
            return True
        now.measurement = measurement
        now.reading = replace(
            now.reading,
            norms=now.reading.norms if self._late else measurement.host_norms(),
            total_norm=float(measurement.total_norm),
            skipped=True,
        )
        return False

    def _watched(self, measurement: Measurement) -> Verdict:
        """Nothing is done to a step that is only watched, but a ``GradScaler`` may leave it out."""
        overflow = self.treatment.under_scaler
        if self._late or not overflow:
            return Verdict(overflow=overflow)
        nonfinite = not math.isfinite(float(measurement.total_norm))
        return Verdict(skipped=nonfinite, overflow=nonfinite)

    def end(self, *, taken_back: bool = False) -> None:
        """The step has ended: put back what was borrowed and hand on the Reading.

        Args:
            taken_back: the whole step was undone after it had run.
        """
        self.treatment.restore(ended=True)
        now, self._now = self._now, None
        if now is None:
            return
        self.count()
        if now.probing and isinstance(self.treatment, HandLoop):
            self._moving = now
            return
        self._close(now, taken_back=taken_back)

    def _has_moved(self) -> None:
        """A loop by hand comes with its next gradients: by now it has made the step that is being measured."""
        now, self._moving = self._moving, None
        if now is not None:
            self._close(now)

    def _close(self, now: StepUnderWay, *, taken_back: bool = False) -> None:
        updates = self._moves.close(now)
        if not self._late:
            norms = None if updates is None else self._if_moved(updates.numpy())
            plain = now.param_norms is None and norms is None and not taken_back
            self._on_reading(now.reading if plain else now.completed(norms, taken_back=taken_back))
            return
        self._hand_on()
        self._settle()
        self._send(now, updates)

    def abandon(self, *, ended: bool = False) -> None:
        """The step raised, or ``ended`` unheard: put back what was borrowed; there is nothing to record."""
        self.treatment.restore(ended=ended)
        self._now = None

    def deliver(self) -> None:
        """Hand on the Reading that is still under way from the device, if any.

        Somebody asks between two steps, for a summary say: an error that is to end the training is not
        meant for them. It waits for the next step. Whether a loop by hand has made its step, nobody knows yet.
        """
        self.early = self.ranks is not None
        try:
            if self._moving is not None:
                self._moving.probing = False
                self._has_moved()
            self._hand_on()
        except TrainingStopped as stop:
            self.stop = stop
        finally:
            self.early = False

    def _hand_on(self) -> None:
        arrived = self._reads.take()
        if arrived is None:
            return
        sent, numbers = arrived
        reading = sent.reading
        total, coef, norms, (param_norms, updates) = unpack(numbers, sent.tensors, sent.has_extras)
        nonfinite = not np.isfinite(total)
        acted = nonfinite and (self.policy is not None or reading.overflow)
        whole = replace(
            reading,
            norms=norms,
            total_norm=total,
            clip_coef=1.0 if nonfinite else coef,
            skipped=acted,
            overflow=reading.overflow and acted,
            param_norms=param_norms,
            update_norms=self._if_moved(updates),
        )
        if self.early:
            self._owed = sent.note, whole
        elif self.policy is not None:
            self.policy.recall(sent.note)
        self._on_reading(whole)

    def _settle(self) -> None:
        if self._owed is None:
            return
        (note, reading), self._owed = self._owed, None
        if self.policy is not None:
            self.policy.recall(note)
        self._on_owed(reading)

    def _if_moved(self, updates: FloatArray | None) -> FloatArray | None:
        """A loop by hand may gather the gradients of several passes: one after which nothing moved was no step."""
        by_hand = isinstance(self.treatment, HandLoop)
        return None if by_hand and updates is not None and not updates.any() else updates

    def _send(self, now: StepUnderWay, updates: Tensor | None) -> None:
        measurement = now.measurement
        extras = [now.param_norms, updates]
        packet = pack(measurement.total_norm, now.verdict.device_coef, measurement.norms, extras)
        has_extras = (now.param_norms is not None, updates is not None)
        self._reads.send(packet, Sent(now.reading, len(measurement.norms), has_extras, now.verdict.note))


def is_late(params: Sequence[Tensor]) -> bool:
    """Whether the gradients of these parameters live where the host must not wait for them."""
    return any(param.device.type not in ("cpu", "meta") for param in params)
