"""What leads up to the next step: one for each thread, so that trainings side by side don't mix."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from torch.optim import Optimizer

from steadygrad.launch.arm.losses import Losses
from steadygrad.launch.arm.objects import parameters_behind
from steadygrad.launch.arm.seat import Seat
from steadygrad.records import Finding
from steadygrad.tracing import Broken, Steep

LOOKS = 8
"""Backward passes of a new training whose loss is looked at: several may lead up to its first step."""

MOST_EXPLANATIONS = 3
"""Losses whose graph is looked through because they aren't finite: doing so at every step would slow a run that is
NaN for good."""


class Course(threading.local):
    """Where one thread's training stands.

    Attributes:
        losses: what its backward passes started from since its last step.
        inside: whose step with a closure is under way.
        passes: backward passes since the last step.
        stepping: optimizers whose step is under way: one may be around another.
        asked: steps that optimizers were asked for.
        looks: backward passes whose loss is still to be looked at.
        unsuited: what the last of those looks has found.
        broken: where a loss that leads up to the next step, or its gradient, became non-finite.
        explanations: how often that was found out.
        steep: what may make the gradient of a finite loss non-finite, during its backward pass.
        reached: parameters that the losses of this round depend on, by ``id``; known while losses are looked at.
    """

    def __init__(self) -> None:
        self.losses = Losses()
        self.inside: Seat | None = None
        self.passes = 0
        self.stepping: list[Optimizer] = []
        self.asked = 0
        self.looks = LOOKS
        self.unsuited: Finding | None = None
        self.broken: Broken | None = None
        self.explanations = 0
        self.steep: Steep | None = None
        self.reached: set[int] = set()

    def begin_pass(self, tensors: object, gradient: object) -> None:
        """A backward pass begins: what broke the loss of the last step, for all its optimizers, is over.

        Args:
            tensors: its roots.
            gradient: what the root's gradient is set to, where that isn't one.
        """
        if not self.losses.open:
            self.broken, self.steep, self.reached = None, None, set()
        self.losses.add(tensors, gradient)
        if self.looks:
            self.reached |= parameters_behind(tensors)

    def end_pass(self, contained: Callable[[str, Callable[[], Broken | None]], Broken | None]) -> None:
        """A backward pass has ended: whether a finite loss has a gradient that isn't shows now, before any clip.

        Args:
            contained: runs what is ours, and holds its faults back.
        """
        steep, self.steep = self.steep, None
        if steep is not None and self.broken is None:
            self.broken = contained("look for infinite slopes", steep.broken)

    def is_scored(self, seat: Seat, known: Sequence[Seat]) -> bool:
        """Whether the loss of a seat's first step is the word of networks that step by a loss of their own.

        Args:
            seat: the new one.
            known: the others. Those that have stepped by this same loss share it.
        """
        others = [one for one in known if one.round != self.losses.round]
        return any(self.reached & one.ids - seat.ids for one in others)
