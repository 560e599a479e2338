"""Clipping that no longer catches outliers but sets the length of every step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import make
from steadygrad.detect.growth import middle
from steadygrad.records import Finding, FloatArray, Reading, Severity

_MILD = 0.1
_MILD_FOR_ADAM = 1e-3


def severity_of(coef: float, context: Context) -> Severity:
    """How bad it is that a clip acts at nearly every step: only where it takes most of the step away.

    Well-known recipes clip all the time and mean it: language models at 1, agents at 0.5. A tenth of the step is what
    SGD is worth tuning for; Adam, whose steps don't grow with the gradient, doesn't notice before its epsilon does.

    Args:
        coef: usual factor.
        context: what is known of the run.
    """
    return "warning" if coef < (_MILD if context.step_bound is None else _MILD_FOR_ADAM) else "info"


class ClipState(NamedTuple):
    """Steps since the last verdict.

    Attributes:
        began: step of the first of them.
        coefs: smallest factor applied in each.
        totals: total norm of each since the last look at the ceiling.
        norms: gradient norms at the first of ``totals``, ``[P]``.
        told: the ceiling that was reported last; a constant is told once.
    """

    began: int = 0
    coefs: tuple[float, ...] = ()
    totals: tuple[float, ...] = ()
    norms: FloatArray | None = None
    told: float = 0.0


@dataclass(frozen=True, slots=True)
class ClipIsStepLimiter:
    """Nearly every step is scaled down, so the clip acts as a second learning rate.

    Two signs. Steadygrad's own clip: the factor it applied. The user's, which acts before a reading is
    taken: the total norm sits at one ceiling while the norms of the tensors move. Where they don't
    move either (a linear loss on a full batch) nothing is clipped; with a single tensor the two can't
    be told apart.

    Attributes:
        steps: steps for a verdict on our own clip.
        ceiling_steps: steps for a verdict on the user's; fewer, because the sign is exact.
        share: share of the steps that must be clipped; 0.9 leaves the rare large step in every tenth
            batch out, where a clip does what it is for.
        width: relative distance from the ceiling; far above rounding, far below gradient noise.
        moved: share of the squared norm that must pass from one tensor to another to count as moving;
            batches of a real run move several per cent.
    """

    steps: int = 200
    ceiling_steps: int = 50
    share: float = 0.9
    width: float = 1e-3
    moved: float = 1e-2

    def start(self) -> ClipState:
        """No step yet."""
        return ClipState()

    def observe(
        self, state: ClipState, reading: Reading, context: Context
    ) -> tuple[ClipState, Finding | None]:
        """Gather one step; skipped and non-finite ones don't count."""
        if reading.skipped or reading.overflow or not math.isfinite(reading.total_norm):
            return state, None
        began, coefs, totals, norms, told = state
        if not totals:
            norms = reading.norms
        if not coefs:
            began = reading.step
        totals = (*totals, reading.total_norm)
        coefs = (*coefs, reading.clip_coef)
        finding = None
        if len(totals) >= self.ceiling_steps:
            ceiling = max(totals)
            if abs(ceiling - told) > self.width * ceiling:
                finding = self._ceiling(totals, norms, reading, context)
                told = ceiling if finding is not None else told
            totals = ()
        if len(coefs) >= self.steps:
            finding = self._limited(began, coefs, reading, context) or finding
            coefs = ()
        return ClipState(began, coefs, totals, norms, told), finding

    def _limited(
        self, began: int, coefs: tuple[float, ...], reading: Reading, context: Context
    ) -> Finding | None:
        share = sum(coef < 1.0 for coef in coefs) / len(coefs)
        if share < self.share:
            return None
        coef = middle(coefs)
        wanted = " This policy is meant to." if context.policy_always_on else ""
        return make(
            "clip_is_step_limiter",
            "info" if context.policy_always_on else severity_of(coef, context),
            began,
            f"{share:.0%} of the last {len(coefs)} steps were clipped, by a median factor of {coef:.2g}: with "
            f"SGD that is a learning rate of {coef * reading.lr:.2g} instead of {reading.lr:.2g}.{wanted}",
            evidence={
                "share": share,
                "steps": len(coefs),
                "median_clip_coef": coef,
                "effective_lr": coef * reading.lr,
            },
            optimizer=context.optimizer,
        )

    def _ceiling(
        self, totals: tuple[float, ...], norms: FloatArray | None, reading: Reading, context: Context
    ) -> Finding | None:
        ceiling = max(totals)
        if ceiling <= 0.0 or norms is None:
            return None
        share = sum(total >= ceiling * (1.0 - self.width) for total in totals) / len(totals)
        if share < self.share or not self._tensors_moved(norms, reading.norms):
            return None
        return make(
            "clip_is_step_limiter",
            "warning" if context.step_bound is None else "info",
            max(reading.step - len(totals) + 1, 0),
            f"The total norm stays at {ceiling:.4g} in {share:.0%} of {len(totals)} steps while the tensors' "
            "norms change: a clip in the training loop sets the length of every step.",
            evidence={"share": share, "steps": len(totals), "ceiling": ceiling},
            optimizer=context.optimizer,
        )

    def _tensors_moved(self, before: FloatArray, now: FloatArray) -> bool:
        size = min(before.size, now.size)
        shift = _shares(now[:size]) - _shares(before[:size])
        return float(np.abs(shift).sum()) / 2 >= self.moved


def _shares(norms: FloatArray) -> FloatArray:
    """Share of each tensor in the squared total norm."""
    scaled = norms.astype(np.float64) / (float(norms.max(initial=0.0)) or 1.0)
    squared = scaled**2
    return squared / (float(squared.sum()) or 1.0)
