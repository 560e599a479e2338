"""Inputs that aren't normalised, and a first loss far above that of a constant guess."""

from __future__ import annotations

import math
from collections.abc import Iterator

from steadygrad.checkup.look import Look
from steadygrad.checkup.reach import best_constant
from steadygrad.checkup.weights import cause_and_cure
from steadygrad.detect.finding import make
from steadygrad.records import Finding

LARGE = 10.0
"""Root mean square of an input: unit spread is what initialisations assume (LeCun et al. 1998, section 4.3);
ten times that scales the first layer's gradient by ten and its curvature by a hundred."""

FAR_OFF = 100.0
"""First loss over that of a constant guess; a sound initialisation starts within a few times of it."""

TRIVIAL = 1e-2
"""A constant guess this much better than an output of 0 says that all targets of the batch are alike."""


def scales(seen: Look) -> Iterator[Finding]:
    """Inputs and first outputs of the wrong size."""
    found = list(_inputs(seen))
    yield from found
    if not found:
        yield from _first_loss(seen)


def _inputs(seen: Look) -> Iterator[Finding]:
    """Looked at where they enter the first layers: what the model normalises itself is normalised."""
    large = {name: of for name, of in seen.fed.items() if of[0] > LARGE}
    if not large:
        return
    name = max(large, key=lambda one: large[one][0])
    scale, low, high = large[name]
    yield make(
        "unnormalised_input",
        "warning",
        0,
        f"The data that enters {name or 'the model'} runs from {low:.4g} to {high:.4g} (root mean square {scale:.3g}); "
        "networks are initialised for inputs of mean 0 and spread 1.",
        where=["input", name],
        evidence={"root mean square": scale, "lowest": low, "highest": high},
    )


def _first_loss(seen: Look) -> Iterator[Finding]:
    output = seen.output_tensor
    if output is None or seen.loss_fn is None or output.dim() == 0 or not math.isfinite(seen.loss):
        return
    guess = best_constant(seen.loss_at, output.float()).loss
    if not math.isfinite(guess) or guess <= 0 or seen.loss <= FAR_OFF * guess:
        return
    if guess < TRIVIAL * float(seen.loss_at(output * 0.0).detach()):
        return
    size = float(output.float().square().mean().sqrt())
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
