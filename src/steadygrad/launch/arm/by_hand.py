"""A loop that updates its parameters itself: ``p.data.add_(p.grad, alpha=-lr)``."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from steadygrad.detect import missing_zero_grad
from steadygrad.launch.arm.kept import Kept
from steadygrad.launch.arm.losses import Losses
from steadygrad.launch.arm.seat import Seat
from steadygrad.launch.result import Training
from steadygrad.monitor import Monitor
from steadygrad.stepping.zero_grad import EVIDENCE_STEPS

# Parameters that are compared with what they were: one that changed will do.
_PROBED = 8
_MOST_PROBED_NUMEL = 65_536


class HandSeat(Seat):
    """One loop without an optimizer: a step is a backward pass, or a clip where the script clips.

    When the update comes can't be seen; gradients are complete when the backward pass ends, and
    still are when the script clips them. Once it has clipped, the clip is the step: the gradients of
    several passes are complete only there.

    Args:
        monitor: attached without an optimizer.
        training: where to tell what it has seen.
        params: the parameters in training.
        module: what they are of; held weakly.
    """

    def __init__(
        self, monitor: Monitor, training: Training, params: Sequence[Tensor], module: nn.Module
    ) -> None:
        super().__init__(monitor, training, params)
        self.module = weakref.ref(module)
        self.fresh = False
        self._told_apart = training
        self._clips_itself = self._clip_due = False
        self._handles = [
            param.register_post_accumulate_grad_hook(self._touched)  # type: ignore[no-untyped-call]
            for param in params
            if param.requires_grad and param.is_leaf
        ]
        self._carried: Kept | None = Kept(params)
        small = sorted((p for p in params if p.numel() <= _MOST_PROBED_NUMEL), key=lambda p: p.numel())
        self._probes = [(param, param.detach().clone()) for param in small[:_PROBED]]

    def backward_done(self, losses: Losses) -> None:
        """A backward pass has ended: a step, unless the script's own clip is still to come."""
        self.fresh = False
        if self._clips_itself and not self._clip_due:
            self._clip_due = True
            return
        # The last pass was followed by no clip after all.
        self._clips_itself = False
        self._step(losses)

    def hand_clip(self, losses: Losses, max_norm: float | None) -> None:
        """The script is about to clip: this is the step, but for the first time it was one before."""
        if self._clip_due:
            self._step(losses, max_norm)
        self._clips_itself, self._clip_due = True, False

    def after_clip(self, norm: Tensor, max_norm: float | None) -> None:
        """The script has clipped; the step that is meant has just been made."""
        super().after_clip(norm, max_norm)
        self._log_clips()

    def end(self) -> None:
        """Take the monitor and the hooks off, and find out whether anything was trained."""
        for handle in self._handles:
            handle.remove()
        if self._carried is not None:
            self._carried.close()
        with torch.no_grad():
            self._told_apart.moved = not all(
                param.shape == before.shape and torch.equal(param.to(before.device), before)
                for param, before in self._probes
            )
        super().end()
        if not self._told_apart.moved and not self._told_apart.findings:
            self._erase()

    def forget(self) -> None:
        """Leave no trace, after `end`: this was no loop by hand."""
        self._told_apart.moved = False
        self._told_apart.steps = 0
        self._erase()

    def _step(self, losses: Losses, max_norm: float | None = None) -> None:
        self._log_loss(losses)
        losses.end_round()
        monitor = self.monitor
        if monitor is None:
            return
        if self._carried is not None and self._carried.proved:
            first = max(0, monitor.counts.steps - EVIDENCE_STEPS)
            monitor.tell(missing_zero_grad(first, {"steps": float(EVIDENCE_STEPS)}))
            self._carried = None
        monitor.clip_(max_norm=max_norm)

    def _touched(self, param: Tensor) -> None:
        del param
        self.fresh = True
