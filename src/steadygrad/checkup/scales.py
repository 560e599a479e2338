"""Inputs that aren't normalised, and a first loss far above that of a constant guess."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from steadygrad.checkup.look import Look
from steadygrad.checkup.reach import best_constant
from steadygrad.checkup.size import root_mean_square
from steadygrad.checkup.weights import cause_and_cure
from steadygrad.detect.finding import make
from steadygrad.detect.scale import Size, unnormalised_input
from steadygrad.records import Finding

FAR_OFF = 50.0
"""First loss over that of a constant guess, and over that of an output of 0: where all targets of the batch are alike, a
guess can be as good as one likes. A sound initialisation starts within a few times of both; of some 190 healthy trainings
in the benchmarks the farthest is a catapult, at 21."""


def scales(seen: Look) -> Iterator[Finding]:
    """Inputs and first outputs of the wrong size."""
    # Looked at where they enter the first layers: what the model normalises itself is normalised.
    found = unnormalised_input(0, [Size(name, *of) for name, of in seen.fed.items()])
    if found is not None:
        yield found
    else:
        yield from _first_loss(seen)


def _first_loss(seen: Look) -> Iterator[Finding]:
    output = seen.output_tensor
    if output is None or seen.loss_fn is None or output.dim() == 0 or not math.isfinite(seen.loss):
        return
    guess = best_constant(seen.loss_at, output.float()).loss
    nothing = float(seen.loss_at(torch.zeros_like(output)).detach())
    if not math.isfinite(guess) or guess <= 0 or not seen.loss > FAR_OFF * max(guess, nothing):
        return
    size = root_mean_square(output)
    first, last = _ends(seen)
    finding = make(
        "exploding_gradient",
        "warning",
        0,
        f"The first loss is {seen.loss:.3g}, {seen.loss / guess:.2g} x that of a constant guess ({guess:.3g}): the "
        f"output starts at {size:.3g}, so the initialisation is too strong or the targets aren't scaled.",
        where=[last, first] if last else [],
        evidence={"first loss": seen.loss, "loss of a constant guess": guess, "output scale": size},
    )
    yield cause_and_cure(finding, seen)


def _ends(seen: Look) -> tuple[str, str]:
    layers = seen.gains.layers
    return (layers[0].module, layers[-1].module) if layers else ("", "")
