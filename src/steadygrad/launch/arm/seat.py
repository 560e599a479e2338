"""One training under watch: its monitor, and what has been captured for its next step."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from steadygrad.launch.arm.losses import Losses
from steadygrad.launch.result import Training
from steadygrad.monitor import Monitor
from steadygrad.runfile.own_clip import AFTER, BEFORE
from steadygrad.tracing import Broken

SCORE = "score"
"""What stands for the loss where that is the word of other networks."""

# What clip_grad_norm_ adds to the norm that it divides by.
_CLIP_EPS = 1e-6


class Seat:
    """One monitor and the optimizers it is attached to.

    Args:
        monitor: the monitor.
        training: where to tell what it has seen.
        params: the parameters in training.
        own: attached by us. One that the script attached itself is only counted.
        measures_early: the monitor may measure when the script clips, before its step.
        led: an integration of ours leads it: it measures before the clip and logs the loss by itself.

    Attributes:
        round: of the losses, of its newest step.
        is_scored: its loss is what other networks say of it, which are trained by losses of their own (the critic of an
            actor, a discriminator): that has no course that it should keep to.
    """

    def __init__(
        self,
        monitor: Monitor,
        training: Training,
        params: Sequence[Tensor],
        *,
        own: bool = True,
        measures_early: bool = True,
        led: bool = False,
    ) -> None:
        self.own = own
        self._looked_at = False
        self._led = led
        self.ids = {id(param) for param in params}
        self._params = [weakref.ref(param) for param in params]
        self._training = training
        self._counts = monitor.counts
        self._kept = monitor if own else None
        self._monitor = weakref.ref(monitor)
        self._measures_early = measures_early and not led
        self._measured = False
        self.round = 0
        self.is_scored = False
        self._clips: list[tuple[Tensor, Tensor]] = []
        self._in_closure = False
        self._evaluated = self._clipped = False

    @property
    def monitor(self) -> Monitor | None:
        """The monitor, while it is ours and open."""
        return self._kept if self._kept is not None and not self._kept.closed else None

    def first_look(self) -> bool:
        """Whether nobody has asked yet; whoever does tells it what its loss and its output don't agree on."""
        first, self._looked_at = not self._looked_at, True
        return first

    def begin_step(self, losses: Losses, *, closure: bool) -> None:
        """The optimizer is asked to step; a closure has its backward pass still to come."""
        self._in_closure, self._evaluated, self._clipped = closure, False, False
        if not closure:
            self._log_loss(losses)
            self._log_clips()

    def explain(self, broken: Broken | None) -> None:
        """The loss of the step to come, or its gradient, isn't finite: tell why, if it is of these parameters."""
        monitor = self.monitor
        if monitor is not None and broken is not None and broken.ids & self.ids:
            monitor.explain(broken.origin)

    def closure_backward(self, losses: Losses) -> None:
        """A backward pass inside the step; the first one tells the step's loss."""
        if not self._evaluated:
            self._evaluated = True
            self._log_loss(losses)

    def end_step(self) -> None:
        """The optimizer has stepped."""
        self._in_closure = self._measured = False
        self._clips.clear()

    def left_out(self, optimizer: Optimizer, losses: Losses) -> None:
        """A ``GradScaler`` has left its step out by itself."""
        self.begin_step(losses, closure=False)
        monitor = self.monitor
        if monitor is not None:
            monitor.left_out(optimizer, surely=True)
        self.end_step()

    def new_gradients(self) -> None:
        """A backward pass outside of a step: what was measured is out of date."""
        if not self._in_closure:
            self._measured = False

    def params(self) -> list[Tensor]:
        """The parameters in training, those that still are."""
        return [param for ref in self._params if (param := ref()) is not None]

    def covered_by(self, ids: set[int]) -> bool:
        """Whether these are all of its parameters that have a gradient, by ``id``."""
        return self.ids <= ids or all(id(param) in ids or param.grad is None for param in self.params())

    def before_clip(self, max_norm: float | None) -> None:
        """The script is about to clip: measure now, with the norms as they came.

        Args:
            max_norm: most that the total norm may be after; None where that isn't known.
        """
        monitor = self.monitor
        if monitor is None or not self._measures_early or self._measured:
            return
        if self._in_closure and self._clipped:
            return
        self._measured = True
        monitor.clip_(max_norm=max_norm)

    def after_clip(self, norm: Tensor, max_norm: float | None) -> None:
        """The script has clipped.

        Args:
            norm: total norm before, 0-d.
            max_norm: most that it may be after; None where that says nothing about the norm.
        """
        if self._in_closure and self._clipped:
            return
        after = norm if max_norm is None else norm * torch.clamp(max_norm / (norm + _CLIP_EPS), max=1.0)
        self._clips.append((norm, after))
        if self._in_closure:
            self._clipped = True
            self._log_clips()

    def end(self) -> None:
        """Take the monitor off and keep the numbers."""
        monitor = self._kept
        if monitor is not None:
            monitor.detach()
        self.tell()
        self._kept = None
        if self.own and not self._training.steps and not self._training.findings:
            self._erase()

    def _erase(self) -> None:
        """Remove the run file, which is ours and tells of no training."""
        if self._training.run is not None:
            Path(self._training.run).unlink(missing_ok=True)
            self._training.run = None

    def tell(self) -> None:
        """Bring the numbers up to date."""
        counts, training = self._counts, self._training
        monitor = self._kept or self._monitor()
        if monitor is not None:  # first, for then everything is counted
            training.findings = monitor.findings
        training.steps, training.clipped, training.overflows = counts.steps, counts.clipped, counts.overflows
        training.skipped = counts.skipped - counts.overflows

    def _log_loss(self, losses: Losses) -> None:
        if not self._led and losses.value is not None and losses.round != self.round:
            self.round = losses.round
            self._log(**{SCORE if self.is_scored else "loss": losses.value})

    def _log_clips(self) -> None:
        if self._clips:
            before, after = (_total(norms) for norms in zip(*self._clips, strict=True))
            self._clips.clear()
            self._log(**{BEFORE: before, AFTER: after})

    def _log(self, **values: Tensor) -> None:
        monitor = self.monitor
        if monitor is not None:
            monitor.log(**values)


def _total(norms: Sequence[Tensor]) -> Tensor:
    """Norm over the groups that were clipped one by one."""
    first = norms[0]
    if len(norms) == 1:
        return first
    together: Tensor = torch.linalg.vector_norm(
        torch.stack([norm.to(first.device, torch.float32) for norm in norms])
    )
    return together
