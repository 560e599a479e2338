"""Inputs that aren't normalised, and a first loss far above that of a constant guess."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from steadygrad.calling import tensors_in
from steadygrad.checkup.look import Look
from steadygrad.checkup.reach import best_constant
from steadygrad.detect.finding import make
from steadygrad.records import Finding

LARGE = 10.0
"""Root mean square of an input: unit spread is what initialisations assume (LeCun et al. 1998, section 4.3);
ten times that scales the first layer's gradient by ten and its curvature by a hundred."""

FAR_OFF = 100.0
"""First loss over that of a constant guess; a sound initialisation starts within a few times of it."""


def scales(seen: Look) -> Iterator[Finding]:
    """Inputs and first outputs of the wrong size."""
    found = list(_inputs(seen))
    yield from found
    if not found:
        yield from _first_loss(seen)


def _inputs(seen: Look) -> Iterator[Finding]:
    if _normalises(seen.model):
        return
    for place, tensor in enumerate(tensors_in(seen.batch)):
        if not tensor.is_floating_point() or tensor.numel() < 2 or not torch.isfinite(tensor).all():
            continue
        scale = float(tensor.detach().double().square().mean().sqrt())
        if scale > LARGE:
            low, high = float(tensor.min()), float(tensor.max())
            yield make(
                "unnormalised_input",
                "warning",
                0,
                f"Input {place} runs from {low:.4g} to {high:.4g} (root mean square {scale:.3g}); networks are "
                "initialised for inputs of mean 0 and spread 1.",
                where=["input" if place == 0 else f"input {place}"],
                evidence={"root mean square": scale, "lowest": low, "highest": high},
            )
            return


def _normalises(model: nn.Module) -> bool:
    """Whether the first module with a job is a normalisation."""
    first = next(
        (module for module in model.modules() if not list(module.children()) and _has_job(module)), None
    )
    return first is not None and "Norm" in type(first).__name__


def _has_job(module: nn.Module) -> bool:
    return any(True for _ in module.parameters()) or "Norm" in type(module).__name__


def _first_loss(seen: Look) -> Iterator[Finding]:
    output = seen.output_tensor
    if output is None or seen.loss_fn is None or output.dim() == 0 or not math.isfinite(seen.loss):
        return
    guess = best_constant(seen.loss_at, output.float())
    if not math.isfinite(guess) or guess <= 0 or seen.loss <= FAR_OFF * guess:
        return
    size = float(output.float().square().mean().sqrt())
    first, last = _ends(seen)
    yield make(
        "exploding_gradient",
        "warning",
        0,
        f"The first loss is {seen.loss:.3g}, {seen.loss / guess:.2g} x that of a constant guess ({guess:.3g}): the "
        f"output starts at {size:.3g}, so the initialisation is too strong or the targets aren't scaled.",
        where=[last, first] if last else [],
        evidence={"first loss": seen.loss, "loss of a constant guess": guess, "output scale": size},
    )


def _ends(seen: Look) -> tuple[str, str]:
    layers = seen.gains.layers
    return (layers[0].module, layers[-1].module) if layers else ("", "")
