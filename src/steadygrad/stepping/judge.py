"""From a Measurement to a verdict that has been carried out, on the host or on the device.

In host memory every number can be looked at for nothing, so the decision is taken on the spot and
nothing is touched unless it must be. On an accelerator the host must not look: factor and skip stay
device numbers, and the host learns of them with the Reading, one step late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from steadygrad.measure import Measurement
from steadygrad.policies.base import Policy


class Treatment(Protocol):
    """What a judge can have done to a step: `Applier` for an optimizer, `HandLoop` without one."""

    @property
    def loss_scale(self) -> Tensor | None:
        """Factor the gradients still carry."""

    @property
    def under_scaler(self) -> bool:
        """Whether a ``GradScaler`` is stepping this optimizer now."""

    def takes_fused_skip(self) -> bool:
        """Whether a skip can be left to the optimizer's kernel."""

    def scale_(self, measurement: Measurement, scale: Tensor) -> None:
        """Scale the gradients, by 0-d or ``[P]`` factors."""

    def skip(self, measurement: Measurement) -> None:
        """Leave the step out."""

    def skip_where(self, nonfinite: Tensor) -> None:
        """Leave the step out where a 0-d flag on the device says so."""

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate for this step."""

    def restore(self, *, ended: bool = False) -> None:
        """Put back whatever was set for the step, which has ``ended`` or raised."""


@dataclass(slots=True)
class Verdict:
    """What was done to one step.

    Attributes:
        clip_coef: smallest factor applied, where the host knows it.
        device_coef: the same as a 0-d tensor, where only the device does.
        scale: the factors applied, 0-d or ``[P]``; None where there were none.
        cap: total norm above which the step was to be scaled.
        skipped: whether the host left the step out.
        overflow: whether a ``GradScaler`` was at work, so that a non-finite step is its business.
        lr_factor: what the learning rate was multiplied by.
        note: what the policy wants back when it learns from the step, later than from the next on an accelerator.
    """

    clip_coef: float = 1.0
    device_coef: Tensor | None = None
    scale: Tensor | None = None
    cap: float | None = None
    skipped: bool = False
    overflow: bool = False
    lr_factor: float = 1.0
    note: object = None


def judge_on_host(measurement: Measurement, policy: Policy, treatment: Treatment) -> Verdict:
    """Judge a step whose numbers are in host memory and carry the verdict out."""
    if measurement.known_total is None or not math.isfinite(measurement.known_total):
        treatment.skip(measurement)
        return Verdict(skipped=True, overflow=treatment.under_scaler)
    verdict = Verdict()
    if not _counts(measurement):
        return verdict
    scale = policy.scale(measurement)
    verdict.cap = policy.cap
    if scale is not None:
        verdict.clip_coef = float(scale if scale.dim() == 0 else scale.min())
        if verdict.clip_coef != 1.0:
            verdict.scale = scale
            treatment.scale_(measurement, scale)
    rewritten = policy.rewrite_(measurement) if policy.rewrites else None
    if rewritten is not None:
        verdict.clip_coef = min(verdict.clip_coef, float(rewritten))
    verdict.lr_factor = _lower_rate(measurement, policy, treatment)
    return verdict


def judge_on_device(measurement: Measurement, policy: Policy, treatment: Treatment) -> Verdict:
    """Judge a step on an accelerator without the host reading a number.

    An optimizer without a fused kernel can't be told to skip by a number the host hasn't seen: there
    one flag a step is read, as a ``GradScaler`` does.
    """
    if not _counts(measurement):
        return Verdict()
    verdict = Verdict(overflow=treatment.under_scaler)
    nonfinite = torch.isfinite(measurement.total_norm).logical_not()
    verdict.skipped = _skips_on_device(measurement, treatment, nonfinite)
    if verdict.skipped:
        return verdict
    scale = policy.scale(measurement)
    verdict.cap, verdict.note = policy.cap, policy.note()
    coefs = []
    if scale is not None:
        # A step that the kernel is about to leave out must not meet a NaN factor on the way.
        scale = torch.where(nonfinite, torch.ones_like(scale), scale)
        verdict.scale = scale
        treatment.scale_(measurement, scale)
        coefs.append(scale.min())
    rewritten = policy.rewrite_(measurement) if policy.rewrites else None
    if rewritten is not None:
        coefs.append(rewritten)
    if coefs:
        verdict.device_coef = torch.stack([coef.to(torch.float64) for coef in coefs]).min()
    verdict.lr_factor = _lower_rate(measurement, policy, treatment)
    return verdict


def judge_again(measurement: Measurement, policy: Policy, treatment: Treatment, verdict: Verdict) -> Verdict:
    """Judge a further evaluation of the same step: its closure was called once more.

    A line search compares gradients and curvature uses their differences: a factor of its own for each
    would bend both. So the first evaluation's ``verdict`` holds for the whole step, and the policy is
    asked only for what it rewrites (fixed limits, alike in every evaluation).
    """
    known = measurement.known_total
    if not _counts(measurement):
        return verdict
    if known is None:
        skipped = _skips_on_device(
            measurement, treatment, torch.isfinite(measurement.total_norm).logical_not()
        )
    else:
        skipped = not math.isfinite(known)
        if skipped:
            treatment.skip(measurement)
    if skipped:
        return Verdict(skipped=True)
    if verdict.scale is not None:
        treatment.scale_(measurement, verdict.scale)
    rewritten = policy.rewrite_(measurement)
    if rewritten is None:
        return verdict
    if known is not None:
        return replace(verdict, clip_coef=min(verdict.clip_coef, float(rewritten)))
    coef = rewritten.to(torch.float64)
    first = verdict.device_coef
    return replace(verdict, device_coef=coef if first is None else torch.minimum(first, coef))


def _counts(measurement: Measurement) -> bool:
    """Whether there are gradients, here or on other ranks: a policy must learn the same everywhere."""
    return bool(measurement.grads) or measurement.elsewhere


def _skips_on_device(measurement: Measurement, treatment: Treatment, nonfinite: Tensor) -> bool:
    """Leave the step out if it is non-finite; whether the host had to do it."""
    if treatment.takes_fused_skip():
        treatment.skip_where(nonfinite)
        return False
    if bool(nonfinite):
        treatment.skip(measurement)
        return True
    return False


def _lower_rate(measurement: Measurement, policy: Policy, treatment: Treatment) -> float:
    factor = policy.lr_factor(measurement)
    if factor < 1.0:
        treatment.scale_lr(factor)
        return factor
    return 1.0
