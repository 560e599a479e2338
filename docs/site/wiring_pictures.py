"""Pictures of wiring: which tensors get a gradient, which move, and what is never cleared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from forms import by_tensor, picture, twins
from reruns import both, reproduction
from torch import nn


def disconnected_loss() -> None:
    """Gradient of each tensor, with the loss of the script and with one of the model."""
    _gradients("disconnected_loss", "a loss without the model", "a loss of its output")


def disconnected_parameters() -> None:
    """Gradient of each tensor, with the cut and without."""
    _gradients("disconnected_parameters", "with detach()", "without")


def _gradients(kind: str, faulty: str, cured: str) -> None:
    lefts = both(kind)
    sizes = [_norms(left["model"]) for left in lefts.values()]
    alt = (
        f"Gradient norm of each tensor, as bars. {faulty.capitalize()}: {_told(sizes[0])}. "
        f"{cured.capitalize()}: {_told(sizes[1])}."
    )
    with picture(kind, alt, columns=2, height=1.3 + 0.25 * len(sizes[0])) as both_axes:
        for axes, size, title in zip(both_axes, sizes, (faulty, cured), strict=True):
            by_tensor(axes, size, "no gradient")
            axes.set(xlabel="gradient norm", title=title)


def _norms(model: nn.Module) -> dict[str, float | None]:
    return {
        name: None if one.grad is None else float(one.grad.norm()) for name, one in model.named_parameters()
    }


def _told(sizes: Mapping[str, float | None], missing: str = "none") -> str:
    return ", ".join(f"{name} {missing if not size else format(size, '.2g')}" for name, size in sizes.items())


def stale_optimizer() -> None:
    """Gradient of each tensor beside how far one more step moves it."""
    left = reproduction("stale_optimizer")
    model: nn.Module = left["model"]
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    model.zero_grad()
    nn.functional.cross_entropy(model(torch.randn(16, 8)), torch.randint(3, (16,))).backward()
    gradients = _norms(model)
    left["optimizer"].step()
    moved = {name: float((one.detach() - before[name]).norm()) for name, one in model.named_parameters()}
    alt = (
        f"Left: gradient norm of each tensor of the model; all have one: {_told(gradients)}. Right: how far one step moves each: "
        f"{_told(moved, 'not at all')}."
    )
    with picture("stale_optimizer", alt, columns=2, height=2.3) as (first, second):
        by_tensor(first, gradients, "no gradient")
        by_tensor(second, moved, "doesn't move")
        first.set(xlabel="gradient norm")
        second.set(xlabel="change in a step")


def missing_zero_grad() -> None:
    """The total norm step by step, with gradients that are never cleared and with ones that are."""
    lefts: dict[str, dict[str, Any]] = both("missing_zero_grad")
    norms = [[reading.total_norm for reading in left["monitor"].recent] for left in lefts.values()]
    alt = (
        f"Total gradient norm against steps: never cleared it climbs from {norms[0][0]:.2g} to {norms[0][-1]:.2g} within "
        f"{len(norms[0])} steps, cleared before each backward pass it stays near {sorted(norms[1])[len(norms[1]) // 2]:.2g}."
    )
    with picture("missing_zero_grad", alt) as axes:
        twins(axes, dict(zip(("never cleared", "cleared each step"), norms, strict=True)), log=False)
        axes.set(ylabel="total gradient norm", ylim=(0, None))


PICTURES = {
    drawn.__name__: drawn
    for drawn in (disconnected_loss, disconnected_parameters, stale_optimizer, missing_zero_grad)
}
