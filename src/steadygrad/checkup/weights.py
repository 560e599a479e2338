"""Initial weights against what the activation asks for: why a signal grows or dies, and by what to change it.

A layer keeps the size of the signal where ``spread of the weights * sqrt(fan_in)``, its gain, is the activation's:
1 for tanh and linear layers, sqrt(2) for ReLU (He et al. 2015, arXiv:1502.01852, section 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from statistics import median

from torch import nn

from steadygrad.checkup.look import Look
from steadygrad.records import Finding, Remedy

ASKED: dict[type[nn.Module], tuple[str, float]] = {
    nn.ReLU: ("relu", math.sqrt(2)),
    nn.LeakyReLU: ("leaky_relu", math.sqrt(2)),
    nn.ReLU6: ("relu", math.sqrt(2)),
    nn.SELU: ("selu", 1.0),
    nn.Tanh: ("tanh", 1.0),
    nn.Identity: ("linear", 1.0),
}
"""Gain that an activation asks for, and its name in ``torch.nn.init``. Sigmoid has none: its mean isn't 0."""

OFF = 1.5
"""Factor between a gain and the one asked for that counts: 1.5 a layer is 57 over ten."""

_SQUASHING = (nn.Sigmoid, nn.Hardsigmoid)


def gain_of(module: nn.Module) -> float | None:
    """Spread of a layer's weights times the root of what feeds one of its units; None for what isn't a layer."""
    if not isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return None
    weight = module.weight.detach()
    return float(weight.double().square().mean().sqrt()) * math.sqrt(weight[0].numel())


def cause_and_cure(finding: Finding, seen: Look) -> Finding:
    """The finding with the cause that the weights show in front, and what cures it."""
    grows = finding.kind == "exploding_gradient"
    gains = [gain for name in seen.called if (gain := gain_of(seen.model.get_submodule(name))) is not None]
    name, asked = activation(seen)
    told: list[str] = []
    cures: list[Remedy] = []
    if gains and asked:
        gain = median(gains)
        if (gain > OFF * asked and grows) or (gain < asked / OFF and not grows):
            side = "large" if grows else "small"
            told.append(
                f"The initial weights are too {side}: their gain is {gain:.2g}, and {name} asks for {asked:.3g}."
            )
            cures.append(_initialise(name))
        finding = replace(
            finding, evidence={**finding.evidence, "gain of weights": gain, "gain asked": asked}
        )
    if not grows and any(isinstance(one, _SQUASHING) for one in _called(seen)):
        told.append("Sigmoid units in a deep stack: each multiplies the gradient by at most 1/4.")
    if not told and not _normalised(seen):
        told.append("Many layers without normalisation or residual connections: small factors multiply.")
    if told:
        cures.append(Remedy("Scale each layer on a batch", "steadygrad.initialise.lsuv_(model, batch)"))
    known = (*finding.causes,)
    return replace(
        finding,
        causes=(*told, *(cause for cause in known if cause not in told)),
        remedies=(*cures, *finding.remedies),
    )


def _initialise(name: str) -> Remedy:
    if name in {"relu", "leaky_relu"}:
        code = f'torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="{name}")'
    else:
        code = "torch.nn.init.xavier_normal_(layer.weight)"
    return Remedy("Initialise for the activation", code)


def activation(seen: Look) -> tuple[str, float]:
    """Name of the activation that is called most, and the gain it asks for; "" and 0 where it isn't known."""
    counts: dict[type[nn.Module], int] = {}
    for module in _called(seen):
        if type(module) in ASKED:
            counts[type(module)] = counts.get(type(module), 0) + 1
    if not counts:
        return "", 0.0
    return ASKED[max(counts, key=lambda kind: counts[kind])]


def _called(seen: Look) -> Iterator[nn.Module]:
    for name, module in seen.model.named_modules():
        if name in seen.called:
            yield module


def _normalised(seen: Look) -> bool:
    return any("Norm" in type(module).__name__ for module in _called(seen))
