"""Does a training stand still at the answer that is the same for every row? Asked of the copies that were trained."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from steadygrad.calling import call_model
from steadygrad.checkup.look import Look, eagerly
from steadygrad.checkup.reach import best_constant, reachable
from steadygrad.checkup.rehearsal import Setup, rehearse
from steadygrad.detect.answers import constant_prediction
from steadygrad.detect.sameness import LEAST_ROWS
from steadygrad.preserve import preserved
from steadygrad.records import Finding

STEPS = 32
"""Steps more on one and the same batch, which a sound model learns by heart meanwhile."""

AT = 0.02
"""Share of the constant's loss within which the loss is at it."""

WORTH = 0.8
"""Share of the constant's loss that a free output must fall below: else there is nothing to learn."""

ALIKE = 1e-3
"""Share of the loss that the differences between the rows' outputs may be worth."""


def at_a_constant(seen: Look, setup: Setup, losses: tuple[float, ...]) -> Iterator[Finding]:
    """Whether a training that doesn't move answers every row alike.

    Args:
        seen: what the first step showed.
        setup: the copy that was trained; is trained on.
        losses: its course so far.
    """
    output = seen.output_tensor
    if output is None or output.dim() < 2 or len(output) < LEAST_ROWS:
        return
    guess = best_constant(seen.loss_at, output.float()).loss
    if not guess > 0 or not _near(losses[-1], guess) or not min(losses) > (1 - AT) * guess:
        return
    if not reachable(seen.loss_at, output).loss < WORTH * guess:
        return
    longer = rehearse(setup, STEPS)
    if not longer.finite or not min(longer.losses) > (1 - AT) * guess or not _near(longer.losses[-1], guess):
        return
    if not _alike(seen, setup, longer.losses[-1]):
        return
    count = len(losses) + len(longer.losses) - 2
    story = f"{count} steps on one batch leave it there, and every row still gets the same answer, whatever its input"
    last = seen.gains.layers[-1].module if seen.gains.layers else ""
    yield constant_prediction(
        0, longer.losses[-1], guess, story, where=[last] if last else [], evidence={"steps": count}
    )


def _near(loss: float, guess: float) -> bool:
    return abs(loss - guess) <= AT * guess


def _alike(seen: Look, setup: Setup, loss: float) -> bool:
    """Whether the trained copy's outputs are worth no more than their mean over the rows."""
    with preserved(setup.model, seen.loss_fn), torch.no_grad(), eagerly():
        output = seen.part(call_model(setup.model, setup.fed(setup.batch)))
        if output is None:
            return False
        mean = output.float().mean(0, keepdim=True).expand(output.shape).to(output.dtype)
        gained = float(seen.loss_at(mean)) - loss
    return math.isfinite(gained) and gained <= ALIKE * loss
