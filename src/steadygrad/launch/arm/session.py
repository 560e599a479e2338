"""Every training of one process: who is attached to what, and what torch's functions tell."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.attachment import attached_to, guard, watch
from steadygrad.containment import Containment
from steadygrad.errors import RunFileError, UsageError
from steadygrad.launch.arm.broken import broken_by, concerns_none
from steadygrad.launch.arm.by_hand import HandSeat
from steadygrad.launch.arm.child_runs import of_children, rank_in_group
from steadygrad.launch.arm.course import LOOKS, MOST_EXPLANATIONS, Course
from steadygrad.launch.arm.loss_graph import unsuited
from steadygrad.launch.arm.losses import Losses, only_loss
from steadygrad.launch.arm.masters import copied_from, named_after
from steadygrad.launch.arm.objects import held_by, leaves_behind, optimizers_of
from steadygrad.launch.arm.seat import Seat
from steadygrad.launch.arm.tree import module_of, number_of, part_of, replicated
from steadygrad.launch.children import at_end_of_child, child_name
from steadygrad.launch.orders import Orders
from steadygrad.launch.result import Result, Training
from steadygrad.monitor import Monitor
from steadygrad.notices import QUIET, Notices
from steadygrad.policies import Policy
from steadygrad.stepping.hooks import steps_under_way
from steadygrad.tracing import steep_loss

# A run file is an open database with a thread of its own; a search over thousands of models is no
# training to look at one by one.
_MOST_RUNS = 64
# Backward passes without a step after which to ask whether parameters are updated by hand: at once
# where nothing is watched yet, else where it is no gradient accumulation any more.
_FIRST_LOOK, _LATER_LOOKS = 1, frozenset({64, 4096})
# Clip calls on parameters of nobody we know, after which nobody is looked for any more.
_MOST_SEARCHES = 8
_SUFFIX = ".steady"


class Session:
    """Attaches a monitor to each optimizer at its first step, and to loops that have none.

    A model and its optimizer are found when gradients are first used: by then the script has built,
    moved, wrapped and compiled what it wants to. Every method is called from a replaced function of
    torch and never fails: a fault switches its part off.

    Args:
        orders: what to do.
        policy: what a guard does with finite gradients; None is its default.
        result: where to tell what was seen.

    Attributes:
        active: whether to do anything.
        contained: runs what is ours, and holds its faults back.
    """

    def __init__(self, orders: Orders, policy: Policy | None, result: Result) -> None:
        self.active = True
        self._course = Course()
        self.orders = orders
        self.policy = policy
        self._result = result
        self._notices = Notices()
        self.contained = Containment(lambda text: self._notices.say(text, text)).run
        self._pid = os.getpid()
        self._began = time.time()
        self._child = orders.child
        self._closes_itself = False
        self._seats: weakref.WeakKeyDictionary[Optimizer, Seat | None] = weakref.WeakKeyDictionary()
        # Threads may train side by side: what is walked over is copied first, which is one step.
        self._known: list[Seat] = []
        self._attaching = threading.RLock()
        self._hands: list[HandSeat] = []
        self._searches = 0

    @property
    def losses(self) -> Losses:
        """The losses of this thread's training."""
        return self._course.losses

    @property
    def steps_asked(self) -> int:
        """How many steps this thread's optimizers were asked for."""
        return self._course.asked

    def say(self, key: str, text: str) -> None:
        """One line on stderr, rate limited."""
        self._notices.say(key, text)

    def reborn(self) -> None:
        """This is a forked child now: what the parent has attached is the parent's, and training goes on anew."""
        # Kept alive: a run file that is let go of is closed, and this one is open in the parent.
        self._parents = (self._seats, self._known, self._hands, self._course, self._result)
        self._pid, self._child, self._closes_itself = os.getpid(), True, False
        self._seats, self._known, self._hands = weakref.WeakKeyDictionary(), [], []
        self._course, self._result, self._notices = Course(), Result(), Notices()
        self.contained = Containment(lambda text: self._notices.say(text, text)).run
        # Another thread of the parent may have held it.
        self._attaching = threading.RLock()

    def close(self) -> None:
        """The process ends: take every monitor off and keep the numbers."""
        if not self.active or os.getpid() != self._pid:
            return
        self.active = False
        for seat in [*self._known, *self._hands]:
            self.contained("closing", seat.end)
        if not self._child:
            found = self.contained("look at child processes", of_children, self._base(), self._began)
            self._result.trainings += found or []
        self._notices.flush()

    # What follows is called by the taps.

    def before_backward(self, tensors: object, gradient: object) -> None:
        """A backward pass begins."""
        course = self._course
        course.begin_pass(tensors, gradient)
        loss = only_loss(tensors)
        # Asking costs nothing where the number is at hand, and waits for the device where it isn't.
        if loss is not None and course.broken is None and (course.looks or loss.device.type == "cpu"):
            self._look_into(loss)
        if course.looks:
            course.looks -= 1
            course.unsuited = self.contained("look at the loss", unsuited, tensors, 0)
        if course.inside is not None:
            course.inside.closure_backward(course.losses)
            self._tell_unsuited(course.inside)

    def after_backward(self, tensors: object) -> None:
        """A backward pass has ended: gradients are there."""
        course = self._course
        course.end_pass(self.contained)
        for seat in self._known[:]:
            seat.new_gradients()
        fresh = [hand for hand in self._hands if hand.fresh]
        for hand in fresh:
            self._end_of_backward(hand)
        course.passes = 0 if fresh else course.passes + 1
        looks = _LATER_LOOKS if self._known or self._hands else {_FIRST_LOOK, *_LATER_LOOKS}
        if course.inside is None and course.passes in looks:
            self.contained("search for a loop by hand", self._look_for_hand_loop, tensors)

    def _end_of_backward(self, hand: HandSeat) -> None:
        course = self._course
        hand.explain(course.broken)
        course.broken = None
        hand.backward_done(course.losses)

    def before_clip(self, params: Sequence[Tensor], max_norm: float | None) -> list[Seat]:
        """The script is about to clip these gradients: measure them as they came.

        Args:
            params: whose gradients.
            max_norm: most that their total norm may be after; None where that isn't known.

        Returns:
            Whose they are.
        """
        ids = {id(param) for param in params}
        hands = [hand for hand in self._hands if hand.ids & ids]
        for hand in hands:
            hand.hand_clip(self.losses, max_norm if hand.covered_by(ids) else None)
        seats = [seat for seat in self._known if seat.ids & ids]
        if not seats and not hands and self._searches < _MOST_SEARCHES:
            self._searches += 1
            seats = [
                new for one in _without_rivals(optimizers_of(ids)) if (new := self._seat_of(one)) is not None
            ]
            for seat in seats:
                self._tell_unsuited(seat)
        for seat in seats:
            seat.before_clip(max_norm if seat.covered_by(ids) else None)
        return [*seats, *hands]

    def before_step(self, optimizer: Optimizer, *, closure: bool) -> None:
        """An optimizer is asked to step."""
        course = self._course
        course.asked += 1
        if self._is_within_another(optimizer):
            return
        course.passes, course.inside = 0, None
        seat = self._seat_of(optimizer)
        if seat is None:
            return
        if not closure:
            self._tell_unsuited(seat)
        seat.explain(course.broken)
        seat.begin_step(course.losses, closure=closure)
        course.inside = seat if closure else None

    def left_out(self, optimizer: Optimizer) -> None:
        """A ``GradScaler`` has found gradients that aren't finite, and left the step out by itself."""
        course = self._course
        course.passes, seat = 0, self._seat_of(optimizer)
        if seat is None:
            return
        self._tell_unsuited(seat)
        seat.explain(course.broken)
        seat.left_out(optimizer, course.losses)
        course.losses.end_round()

    def _tell_unsuited(self, seat: Seat) -> None:
        """A training begins: tell it what its loss looked like, and look at the losses of the next one."""
        course = self._course
        if not seat.first_look():
            return
        found, course.unsuited, course.looks = course.unsuited, None, LOOKS
        if found is not None and seat.monitor is not None:
            seat.monitor.tell(found)

    def _look_into(self, loss: Tensor) -> None:
        """A loss that isn't finite: find out why while its graph is there, a few times in a training."""
        course = self._course
        if course.explanations < MOST_EXPLANATIONS or concerns_none(loss, self._known, self._hands):
            course.broken = self.contained("look into a broken loss", broken_by, loss)
            course.explanations += course.broken is not None
        if course.looks and course.broken is None:
            course.steep = self.contained("look for infinite slopes", steep_loss, loss, module_of)

    def _is_within_another(self, optimizer: Optimizer) -> bool:
        """Whether this step is part of the step of an optimizer around this one, which is watched."""
        stepping = self._course.stepping
        if stepping:
            # A step that has raised is still in the list.
            frame = sys._getframe()  # noqa: SLF001 - who else could know?
            stepping[:] = [one for one in stepping if steps_under_way(one, frame)]
        seats = [seat for one in stepping if (seat := self._seats.get(one)) is not None]
        ids = {id(param) for param in held_by(optimizer)} if seats else set()
        if any(seat.ids & ids for seat in seats if self._seats.get(optimizer) is not seat):
            return True
        stepping.append(optimizer)
        return False

    def after_step(self, optimizer: Optimizer) -> None:
        """An optimizer has stepped."""
        if optimizer not in self._course.stepping:
            return
        self._course.stepping.remove(optimizer)
        self._course.inside = None
        self.losses.end_round()
        seat = self._seats.get(optimizer)
        if seat is not None:
            seat.end_step()

    def lead(
        self, module: nn.Module, optimizer: Optimizer, attach: Callable[[Path | None], Monitor]
    ) -> Monitor | None:
        """An integration of ours attaches to a training that is about to begin.

        Args:
            module: what is trained.
            optimizer: by what.
            attach: given the path of the run file, or None for no recording.
        """
        with self._attaching:
            monitor = self._begun(attach)
            if monitor is not None:
                params = held_by(optimizer)
                seat = Seat(monitor, self._tell_of(monitor, module, params), params, led=True)
                self._seats[optimizer] = self._seated(optimizer, seat)
                self._known.append(seat)
        return monitor

    def _seat_of(self, optimizer: Optimizer) -> Seat | None:
        """The seat of an optimizer, made now if it is new; None where it can't have one."""
        if optimizer not in self._seats:
            # Trainings that begin in threads would claim one run file together.
            with self._attaching:
                # Noted first: what can't be attached is not tried again at every step.
                self._seats[optimizer] = None
                seat = self._seats[optimizer] = self.contained("attaching", self._attach, optimizer)
                if seat is not None:
                    seat.is_scored = self._course.is_scored(seat, self._known)
                    self._known.append(seat)
        return self._seats[optimizer]

    def _attach(self, optimizer: Optimizer) -> Seat | None:
        if any(isinstance(one, Optimizer) and self._seats.get(one) for one in vars(optimizer).values()):
            # An optimizer around one that is watched already: torch hears of some only at their second step.
            return None
        params = held_by(optimizer)
        self._give_up_hand_loops({id(param) for param in params})
        module = self._module_of(params)
        theirs = attached_to(optimizer)
        if theirs is not None:
            return Seat(theirs, self._tell_of(theirs, module, params), params, own=False)
        monitor = self._monitored(module, optimizer)
        if monitor is None:
            return None
        return self._seated(optimizer, Seat(monitor, self._tell_of(monitor, module, params), params))

    def _module_of(self, params: Sequence[Tensor]) -> nn.Module:
        """What a person would name these parameters by."""
        hand = copied_from(params, self._hands)
        model = None if hand is None else hand.module()
        if hand is None or model is None:
            return module_of(params)
        self._give_up(hand)
        return named_after(model, params)

    def _seated(self, optimizer: Optimizer, seat: Seat) -> Seat:
        # An optimizer that is gone has made its last step; so it doesn't keep its model alive either.
        weakref.finalize(optimizer, self._left, seat).atexit = False
        return seat

    def _look_for_hand_loop(self, tensors: object) -> None:
        leaves = [] if self._child else leaves_behind(tensors)
        if not leaves or optimizers_of({id(leaf) for leaf in leaves}):
            return
        module = module_of(leaves)
        monitor = self._monitored(module, None)
        if monitor is None:
            return
        params = [param for param in module.parameters() if param.requires_grad]
        hand = HandSeat(monitor, self._tell_of(monitor, module, params, by_hand=True), params, module)
        self._hands.append(hand)
        self._end_of_backward(hand)
        self._tell_unsuited(hand)

    def _monitored(self, module: nn.Module, optimizer: Optimizer | None) -> Monitor | None:
        return self._begun(partial(self._attached, module, optimizer))

    def _begun(self, attach: Callable[[Path | None], Monitor]) -> Monitor | None:
        """A new monitor, recorded if that can be."""
        recorded = len(self._result.trainings) < _MOST_RUNS
        self._result.unrecorded += not recorded
        try:
            return attach(self._run_path() if recorded else None)
        except RunFileError as error:
            self._notices.say("run file", f"nothing is recorded: {error}")
            return attach(None)
        except UsageError as error:
            self._notices.say("attach", f"not watched: {error}")
            return None

    def _attached(self, module: nn.Module, optimizer: Optimizer | None, path: Path | None) -> Monitor:
        module = module if optimizer is None else replicated(module)
        if self.orders.guard:
            return guard(module, optimizer, policy=self.policy, run=path)
        return watch(module, optimizer, run=path)

    def _base(self) -> Path:
        """What the names of this process's run files begin with; each rank has its own."""
        rank = f".rank{os.environ['RANK']}" if os.environ.get("WORLD_SIZE", "1") != "1" else ""
        return self.orders.folder / f"{self.orders.name}{rank}"

    def _run_path(self) -> Path:
        """Where the next run goes."""
        base = self._base()
        if not self._child:
            return base.with_name(f"{base.name}{_SUFFIX}")
        if not self._closes_itself:
            self._closes_itself = True
            at_end_of_child(self.close)
        rank = rank_in_group()
        if rank:
            os.environ[QUIET] = "1"
        own = child_name() if rank is None else f"rank{rank}"
        return base.with_name(f"{base.name}.{own}{_SUFFIX}")

    def _tell_of(
        self, monitor: Monitor, module: nn.Module, params: Sequence[Tensor], *, by_hand: bool = False
    ) -> Training:
        title, part = type(module).__name__, part_of(module, params)
        training = Training(monitor.mode, title, monitor.run, by_hand, part=part, number=number_of(module))
        self._result.trainings.append(training)
        return training

    def _give_up_hand_loops(self, ids: set[int]) -> None:
        """What looked like a loop by hand has an optimizer after all: forget those first passes."""
        for hand in [hand for hand in self._hands if hand.ids & ids]:
            self._give_up(hand)

    def _give_up(self, hand: HandSeat) -> None:
        self._hands.remove(hand)
        hand.end()
        hand.forget()

    def _left(self, seat: Seat) -> None:
        if self.active and seat in self._known:
            self._known.remove(seat)
            self.contained("closing", seat.end)


def _without_rivals(optimizers: Sequence[Optimizer]) -> list[Optimizer]:
    """Those that share no parameter with another: of an optimizer around an optimizer only one will step."""
    holders = Counter(id(param) for one in optimizers for param in held_by(one))
    return [one for one in optimizers if all(holders[id(param)] == 1 for param in held_by(one))]
