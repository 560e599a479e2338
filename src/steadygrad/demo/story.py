"""What happened, in a sentence for each way of training, from what was measured."""

from __future__ import annotations

import math

from steadygrad.demo.outcome import Outcome


def sentence(outcome: Outcome) -> str:
    """Tell one outcome, the name of the arm first."""
    return f"{outcome.training.arm.label}: {_TELL[outcome.fate](outcome)}"


def _learned(outcome: Outcome) -> str:
    training = outcome.training
    steps = len(training.norms)
    if training.arm.max_norm is not None:
        return f"learned, with {training.clipped:,} of {steps:,} gradients cut."
    if training.clipped or training.skipped:
        return f"held back {training.clipped:,} and left out {training.skipped:,} of {steps:,} steps, and learned."
    return "learned by itself."


def _never_learned(outcome: Outcome) -> str:
    training = outcome.training
    guess = f"no lower than a constant guess's ({outcome.held_out_loss:.2f} against {training.workload.guess:.2f})"
    if training.arm.max_norm is None or not training.clipped:
        return f"it got through, but its loss is {guess}."
    return (
        f"gradients with a norm of about {outcome.usual_norm:,.0f} were cut to {training.arm.max_norm:g} in "
        f"{training.clipped:,} of {len(training.norms):,} steps, so the weights moved by {outcome.moved:.1%} in all; "
        f"the loss is {guess}."
    )


def _diverged(outcome: Outcome) -> str:
    training = outcome.training
    if training.ruined_at is None:
        return "the weights are finite, but so large that the held-out loss isn't."
    end = f"weights are NaN or Inf after step {training.ruined_at}, for good"
    if training.arm.max_norm is not None and not math.isfinite(training.norms[training.ruined_at]):
        return f"a non-finite norm made the clip multiply every gradient by NaN or 0; {end}."
    return f"{end}."


def _stopped(outcome: Outcome) -> str:
    return f"stopped after {len(outcome.training.norms):,} steps: too many in a row were non-finite."


_TELL = {
    "learned": _learned,
    "never learned": _never_learned,
    "diverged": _diverged,
    "stopped": _stopped,
}
