"""Everything kept about one optimizer: its hooks, its lane, its detectors, its streak of skips.

Order of a step: gradients ready -> measure, judge, treat -> the optimizer's own step -> Reading ->
the policy learns, detectors look, the outlet publishes, the streak is counted. A plain step takes the `ShortWay`:
measured, written down, and the rest a few steps later.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from steadygrad.capture import CAPTURED, is_capturing
from steadygrad.containment import Containment
from steadygrad.detect import Context, missing_zero_grad
from steadygrad.measure import Measurement, ParamTable, Spending
from steadygrad.policies.base import Policy
from steadygrad.ranks import Newcomers, Ranks
from steadygrad.records import Reading
from steadygrad.stepping.aftermath import REPORTING, Aftermath
from steadygrad.stepping.apply import Applier, ClipCall, HandLoop, LeftOut
from steadygrad.stepping.bounded import BoundedPolicy
from steadygrad.stepping.brake import Brake, BrakedPolicy
from steadygrad.stepping.growth import Growth
from steadygrad.stepping.hooks import StepHooks
from steadygrad.stepping.judge import Treatment
from steadygrad.stepping.lane import Lane, is_late
from steadygrad.stepping.lookout import AT_ONCE, context_of
from steadygrad.stepping.outlet import Outlet
from steadygrad.stepping.plain import plain_total
from steadygrad.stepping.saved import completed
from steadygrad.stepping.shielded import ShieldedPolicy
from steadygrad.stepping.short_way import ShortWay
from steadygrad.stepping.strangers import Strangers
from steadygrad.stepping.streak import SkipStreak
from steadygrad.stepping.undo import undo_of
from steadygrad.stepping.withheld import Withheld
from steadygrad.stepping.zero_grad import EVIDENCE_STEPS, ZeroGradCheck

T = TypeVar("T")
Groups = Sequence[Mapping[str, Any]]
Rates = Callable[[Policy | None, Optimizer | None], Sequence[object]]
_MEASURING = "measuring"
_SHORT_WAY = "short way"
_set_graded: Callable[[bool], None] = torch._C._set_grad_enabled  # noqa: SLF001 - its public name is a class


class Track:
    """One optimizer under watch, or one loop without an optimizer.

    Args:
        index: index of the optimizer in its monitor.
        optimizer: held weakly; None for a loop that updates parameters by hand.
        table: the parameters.
        policy: what to do with gradients; None only watches.
        streak: counts skipped steps in a row.
        outlet: where results go.
        containment: holds back faults of steadygrad's own.
        overhead: share of the step time to spend at most.
        clock: seconds since the run began.
        late: the numbers must not be waited for; by default, whether they are on an accelerator.
        recovers: somebody may want to put the `brake` on.
        spending: what steadygrad's own time is added to.
    """

    def __init__(
        self,
        index: int,
        optimizer: Optimizer | None,
        table: ParamTable,
        policy: Policy | None,
        *,
        streak: SkipStreak,
        outlet: Outlet,
        containment: Containment,
        overhead: float,
        clock: Callable[[], float],
        late: bool | None = None,
        recovers: bool = False,
        spending: Spending | None = None,
    ) -> None:
        self.index, self.table, self._policy = index, table, policy
        self._late = is_late(table.params) if late is None else late
        self._optimizer = None if optimizer is None else weakref.ref(optimizer)
        self._outlet, self._spending = outlet, spending or Spending()
        self._containment, self._contained = containment, containment.run
        bounded = self._bounded = (
            None if policy is None else BoundedPolicy(ShieldedPolicy(policy, containment))
        )
        self.brake = Brake()
        context = context_of(index, table.tensors, policy, optimizer)
        self._aftermath = Aftermath(self, bounded, context, streak, outlet, containment)
        self.lane = Lane(
            index,
            table,
            BrakedPolicy(bounded, self.brake) if recovers and bounded else bounded,
            late=self._late,
            overhead=overhead,
            on_reading=self._on_reading,
            on_owed=self._aftermath.take_owed,
            on_nonfinite=self._trace,
            unlearnt=self._aftermath.unlearnt,
            containment=containment,
            clock=clock,
            spending=self._spending,
        )
        lookout, strangers = self._aftermath.lookout, Strangers(table, outlet.say)
        grown = partial(outlet.grown, self)
        self._growth = Growth(table, self.lane, policy, lookout, strangers, containment, grown)
        self._short = ShortWay(self, self.lane, bounded, outlet)
        self._meet_optimizer(optimizer)

    def _meet_optimizer(self, optimizer: Optimizer | None) -> None:
        self._withheld = None if optimizer is None else Withheld(optimizer, self.lane.measurer)
        self._step: Treatment = HandLoop() if optimizer is None else Applier(optimizer, self._withheld)
        self._clip = None if optimizer is None else ClipCall(optimizer, self._withheld)
        self._clipped_early = self._closing = self._take_back = self._traced = False
        self._undo = undo_of(optimizer)
        self._zero_grad = ZeroGradCheck(self.table.params, late=self._late) if optimizer is not None else None
        self._hooks = None if optimizer is None else self._hooked(optimizer)

    @property
    def context(self) -> Context:
        """What detectors may know of the optimizer."""
        return self._aftermath.lookout.context

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer, while it lives."""
        return None if self._optimizer is None else self._optimizer()

    @property
    def policy(self) -> Policy | None:
        """What to do with gradients, having learnt from every step so far; None only watches."""
        self._short.until = 0.0  # whoever has it may change it
        self._outlet.settle()
        self._aftermath.unlearnt.settle()
        return self._policy

    def catch_up(self) -> None:
        """Learn from the steps that were put off, and look them through."""
        self._outlet.settle()
        self._aftermath.catch_up()

    def meets(self, ranks: Ranks, newcomers: Newcomers, rates: Rates) -> None:
        """Have parameters that join later told to ranks that hold other tensors.

        Args:
            ranks: this rank's side of the collective.
            newcomers: this rank's side of the meetings.
            rates: what must be the same on all ranks for one verdict, of a policy and an optimizer.
        """
        strangers = self._growth.strangers
        strangers.join(ranks, newcomers, lambda: rates(self._policy, self.optimizer))

    def went_back(self, step: int) -> None:
        """Take note that weights and state have been put back to those of ``step``."""
        self._aftermath.streak.went_back_to = step
        self.lane.look_again()

    def close(self) -> None:
        """Take every hook off and put back what was borrowed.

        A step under way is finished first: gradients it must not see are not put back before it has run.
        """
        for part in (self._zero_grad, self.lane.ranks, self._withheld):
            if part is not None:
                part.close()
        self._closing = self._hooks is not None and self._hooks.under_way
        if self._hooks is not None:
            self._hooks.remove()
        if not self._closing:
            self._abandoned()
        self.deliver()

    def deliver(self) -> None:
        """Take in what is under way from the device, and what was put off."""
        self.lane.deliver()
        self.catch_up()

    def state_dict(self) -> dict[str, Any]:
        """Step counter and what the policy has learnt."""
        if self._hooks is not None:
            self._hooks.settle()
        policy = self.policy
        return {"step": self.lane.step, "policy": {} if policy is None else policy.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        policy = self.policy
        self._short.until = 0.0
        self.lane.step = int(state["step"])
        if policy is not None and state["policy"]:
            policy.load_state_dict(completed(state["policy"], policy.fresh().state_dict()))

    def clip_(self, max_norm: float | None = None) -> Tensor:
        """Measure and treat the gradients now; the optimizer's step then adds nothing.

        Args:
            max_norm: total norm that the loop is about to clip to by itself; None where it isn't.

        Returns:
            Total norm before any scaling, 0-d.
        """
        return self._spend(self._clipped, math.inf if max_norm is None else max_norm)

    def left_out(self, *, surely: bool) -> None:
        """A ``GradScaler`` left a step out: ``surely``, or if one that `clip_` has measured is still to come."""
        if (surely or self._clipped_early) and not is_capturing():
            self._spend(self._passed_over)

    def _passed_over(self) -> None:
        self._short.give_back(self._groups())
        ranks = self.lane.ranks
        # Where weights are cut over ranks each scaler decides for itself: the others may not be measuring.
        if not self.lane.under_way and (ranks is None or not ranks.sharded):
            self._measuring(self._begin, LeftOut())
        self._clipped_early = False
        self._contained(_MEASURING, partial(self.lane.pass_over, surely=True))

    def _spend(self, call: Callable[..., T], *args: object) -> T:
        """Call a part of ours: its time is counted, and no gradients are recorded.

        By hand, because it is done twice a step: `torch.no_grad` takes seven calls of its own.
        """
        spending = self._spending
        began, graded = spending.clock(), torch.is_grad_enabled()
        _set_graded(False)
        try:
            return call(*args)
        finally:
            _set_graded(graded)
            spending.spent_s += spending.clock() - began

    def _clipped(self, bound: float) -> Tensor:
        if is_capturing():
            return self._plain_norm()
        if self._clip is None:
            measured = self._measuring(self._begin, self._step, bound)
            self._contained(_MEASURING, self.lane.end)
            return self._plain_norm() if measured is None else measured.total_norm
        if self.lane.under_way:
            self._contained(_MEASURING, self.lane.pass_over)
        is_short = self.lane.step < self._short.until
        if is_short and self._contained(_SHORT_WAY, self._short.enters, self._clip, bound):
            self._clipped_early = True
            return self._short.total_norm
        measured = self._measuring(self._begin, self._clip, bound)
        self._clipped_early = measured is not None
        if measured is None:
            self.lane.abandon()
            return self._plain_norm()
        return measured.total_norm

    def _hooked(self, optimizer: Optimizer) -> StepHooks:
        captured = partial(self._outlet.say, "capture", CAPTURED)
        withheld = None if self._policy is None else self._withheld
        told: list[Callable[..., Any]] = []
        if withheld is not None and withheld.undoes:
            told = [partial(self._spend, self._begun, withheld)]
            told += [partial(self._spend, self._contained, "undoing", withheld.evaluates)]
        return StepHooks(optimizer, self._gradients_ready, self._stepped, self._abandoned, captured, *told)

    def _begun(self, withheld: Withheld, closure: object) -> None:
        poisoned = self._contained("undoing", withheld.begins, closure)
        self._traced = bool(poisoned)
        if self._traced:  # its first half is about to spoil the weights that made it
            self._contained("tracing", self._outlet.nonfinite, self)

    def _measuring(self, call: Callable[..., T], *args: object) -> T | None:
        ranks = self.lane.ranks
        if ranks is None:
            return self._contained(_MEASURING, call, *args)
        calls = ranks.calls
        result = self._contained(_MEASURING, call, *args)
        # The others wait in the collective of this step: a rank that has failed must not be missing there.
        if _MEASURING in self._containment.off and ranks.calls == calls:
            self._contained("word to the other ranks", self.lane.leave)
        return result

    def _plain_norm(self) -> Tensor:
        """What ``clip_grad_norm_`` would return, for whoever called it when measuring is off."""
        norm = self._contained("plain norm", plain_total, self.table.params)
        return torch.tensor(math.nan) if norm is None else norm

    def _gradients_ready(self, evaluation: int) -> None:
        is_short = evaluation == 0 and not self._clipped_early and self.lane.step < self._short.until
        if not (is_short and self._spend(self._contained, _SHORT_WAY, self._short.enters, self._step)):
            self._spend(self._measuring, self._measure, evaluation)

    def _measure(self, evaluation: int) -> None:
        if self._zero_grad is not None and self._zero_grad.running:
            self._contained("gradient check", self._check_zero_grad)
        was_clipped, self._clipped_early = self._clipped_early, False
        if was_clipped and (self.lane.under_way or self._short.reading is not None):
            self._short.go_on()
            self.lane.go_on()
            return
        try:
            if evaluation == 0:
                self._begin(self._step)
                if self._undo is not None and self._policy is not None:
                    self._contained("undoing", self._undo.remember)
                    self._take_back = self.lane.skipping
                return
            self._short.give_back(self._groups())
            if not self.lane.again(self._groups()):
                self._take_back = self._undo is not None
        except Exception:
            self.lane.abandon()
            raise

    def _begin(self, treatment: Treatment, bound: float = math.inf) -> Measurement:
        self._short.close()
        self._outlet.settle()
        self._outlet.begins(self)
        if self._bounded is not None:
            self._bounded.bound = bound
        groups = self._groups()
        if groups and self.table.grown(groups):
            self._growth.follow(groups)
            self._short.forget()
        return self.lane.begin(groups, treatment)

    def _stepped(self) -> None:
        self._spend(self._has_stepped)

    def _has_stepped(self) -> None:
        if self._take_back and self._undo is not None:
            self._contained("undoing", self._undo.take_back)
        if self._closing:
            self._abandoned(ended=True)
            return
        if self._short.reading is not None:
            self._contained(_SHORT_WAY, self._short.leaves)
            if self.lane.step < self._short.until:
                return
            self._outlet.settle(ended=True)
        else:
            self._contained(_MEASURING, self._end)
            if self._zero_grad is not None and self._withheld is not None and self._zero_grad.running:
                self._contained("gradient check", self._zero_grad.stepped, bool(self._withheld.standing))
        self._open_short_way()

    def _open_short_way(self) -> None:
        is_checked = self._zero_grad is None or not self._zero_grad.running
        is_sound = is_checked and self._containment.off.isdisjoint((_MEASURING, REPORTING))
        if is_sound and self._undo is None and self.lane.step >= AT_ONCE:
            self._contained(_SHORT_WAY, self._short.open)

    def _end(self) -> None:
        taken_back, self._take_back = self._take_back, False
        if self._undo is not None:
            self._undo.forget()
        self.lane.end(taken_back=taken_back)
        if self.lane.ranks is not None:
            self._outlet.ended(self)
            if self.lane.ranks.asked:
                self._growth.admit()

    def _abandoned(self, *, ended: bool = False) -> None:
        self._clipped_early = self._take_back = False
        self._short.reading = None
        if self._undo is not None:
            self._undo.forget()
        self.lane.abandon(ended=ended)

    def _groups(self) -> Groups:
        optimizer = self.optimizer
        return () if optimizer is None else optimizer.param_groups

    def _trace(self) -> None:
        if self._traced:  # the weights of this moment will be undone
            self.lane.look_again()
        else:
            self._outlet.nonfinite(self)

    def _on_reading(self, reading: Reading) -> None:
        self._aftermath.take(reading, left_alone=self.lane.left_alone, early=self.lane.early)

    def tell(self, reading: Reading) -> None:
        """Have a step told that has passed; the outlet calls this, in the order of the steps."""
        self._aftermath.take_passed(reading)

    def look_through(self) -> None:
        """Have detectors look at what has waited."""
        self._aftermath.lookout.settle()

    def _check_zero_grad(self) -> None:
        if self._zero_grad is not None and self._zero_grad.gradients_ready():
            first = max(0, self.lane.step - EVIDENCE_STEPS + 1)
            finding = missing_zero_grad(first, {"steps": float(EVIDENCE_STEPS)}, self.index)
            self._contained(REPORTING, self._outlet.finding, finding)
