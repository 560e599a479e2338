"""The script's own clip, heard on both sides: whether it catches outliers or sets the length of every step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from steadygrad.detect.clipping import severity_of
from steadygrad.detect.detector import Context
from steadygrad.detect.finding import make
from steadygrad.detect.growth import middle
from steadygrad.records import Finding

# A coefficient of one leaves every bit; below it, float32 rounds at about 1e-7.
_ROUNDING = 1e-5


class OwnClipState(NamedTuple):
    """Calls since the last verdict.

    Attributes:
        began: step of the first of them.
        coefs: what each left of the norm.
        after: largest norm that one of them has left.
        told: it has been said; a loop clips with one constant.
    """

    began: int = 0
    coefs: tuple[float, ...] = ()
    after: float = 0.0
    told: bool = False


@dataclass(frozen=True, slots=True)
class OwnClipIsStepLimiter:
    """Nearly every call of ``clip_grad_norm_`` in the script scales the gradients down.

    Where only the gradients it has left can be seen, `ClipIsStepLimiter` judges by the ceiling.

    Attributes:
        steps: calls for a verdict, as many as for one by the ceiling.
        share: share of them that must have scaled; 0.9 leaves the rare large step in every tenth batch
            out, where a clip does what it is for.
    """

    steps: int = 50
    share: float = 0.9

    def observe(
        self, state: OwnClipState, step: int, before: float, after: float, lr: float, context: Context
    ) -> tuple[OwnClipState, Finding | None]:
        """Gather one call.

        Args:
            state: of the calls before.
            step: the step it belongs to.
            before: total norm that it met; a non-finite one doesn't count.
            after: total norm that it left.
            lr: learning rate of the newest step.
            context: what is known of the run.
        """
        if state.told or not (math.isfinite(before) and before > 0.0):
            return state, None
        began = state.began if state.coefs else step
        coefs, ceiling = (*state.coefs, min(1.0, after / before)), max(state.after, after)
        if len(coefs) < self.steps:
            return OwnClipState(began, coefs, ceiling), None
        share = sum(coef < 1.0 - _ROUNDING for coef in coefs) / len(coefs)
        if share < self.share:
            return OwnClipState(), None
        return OwnClipState(told=True), _found(began, coefs, share, ceiling, lr, context)


def _found(
    began: int, coefs: tuple[float, ...], share: float, ceiling: float, lr: float, context: Context
) -> Finding:
    coef = middle(coefs)
    return make(
        "clip_is_step_limiter",
        severity_of(coef, context),
        began,
        f"The clip in the training loop, to {ceiling:.4g}, scaled {share:.0%} of {len(coefs)} steps, by a median "
        f"factor of {coef:.2g}: it sets the length of every step; with SGD that is a learning rate of "
        f"{coef * lr:.2g} instead of {lr:.2g}.",
        evidence={
            "share": share,
            "steps": len(coefs),
            "ceiling": ceiling,
            "median_clip_coef": coef,
            "effective_lr": coef * lr,
        },
    )
