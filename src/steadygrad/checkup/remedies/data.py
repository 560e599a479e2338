"""Remedies of the size of what goes in and of what has to come out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from steadygrad.calling import mapped, tensors_in
from steadygrad.checkup.outputs import BOUNDED
from steadygrad.checkup.reach import best_constant, is_target, reachable
from steadygrad.checkup.rehearsal import Setup
from steadygrad.checkup.remedies.plan import Case, Plan
from steadygrad.records import Remedy

NORMAL = (0.2, 5.0)
"""Root mean square of inputs and targets between which there is nothing to scale."""

TINY = 1e-3
"""A first loss below which its weight is looked at; cross entropies and losses of unit targets begin near 1."""


def data_plans(case: Case) -> Iterator[Plan]:
    """Normalised inputs, scaled targets, float32."""
    scales = [of[0] for of in case.seen.fed.values()]
    unusual = any(not NORMAL[0] <= scale <= NORMAL[1] for scale in scales)
    if unusual:
        code = "inputs = (inputs - mean) / (std + 1e-6)  # of each feature, over the training set"
        yield Plan(Remedy("Normalise the inputs", code), "data", _normalise)
    yield from _scaled_targets(case)
    yield from _weighed(case)
    half = any(param.dtype in {torch.float16, torch.bfloat16} for param in case.seen.model.parameters())
    if half:
        yield Plan(Remedy("Compute in float32", "model.float()"), "precision", _float32)


def _scaled_targets(case: Case) -> Iterator[Plan]:
    """A loss with one best output has targets; where they are far from unit size the output is given theirs."""
    output = case.seen.output_tensor
    if output is None or case.seen.loss_fn is None or output.dim() == 0 or not torch.isfinite(output).all():
        return
    low, high = _room(case.seen.output_node)
    bounded = high < float("inf") or low > -float("inf")
    found = reachable(case.seen.loss_at, output)
    best = found.at
    unusual = not NORMAL[0] <= float(best.square().mean().sqrt()) <= NORMAL[1]
    wanted = "output_range_mismatch" in case.kinds if bounded else unusual
    if not wanted or not torch.isfinite(best).all() or not is_target(case.seen.loss_at, found):
        return
    factor, offset = _into(best, low, high) if bounded else (float(best.std()) or 1.0, float(best.mean()))
    unit = best_constant(case.seen.loss_at, output.float()).loss

    def change(setup: Setup) -> None:
        setup.read.append(lambda out: out * factor + offset)
        setup.unit = unit if unit > 0 else 1.0

    code = f"targets = (targets - {offset:.4g}) / {factor:.4g}"
    yield Plan(Remedy("Scale the targets", code), "targets", change)


def _weighed(case: Case) -> Iterator[Plan]:
    """A loss far below 1 has gradients that half precision and SGD's usual rates make nothing of."""
    size = abs(case.seen.loss)
    if not 0 < size < TINY:
        return

    def change(setup: Setup) -> None:
        setup.unit = size

    yield Plan(
        Remedy("Weigh the loss so that it begins near 1", f"loss = loss / {size:.2g}"), "targets", change
    )


def _room(node: str) -> tuple[float, float]:
    """Where an output behind this activation can lie."""
    bounds = {"a sigmoid": (0.0, 1.0), "a tanh": (-1.0, 1.0), "a clamp": (-1.0, 1.0)}
    name = BOUNDED[node][0] if node in BOUNDED else ""
    infinite = float("inf")
    return bounds.get(name, (0.0, infinite) if name in {"a ReLU", "a softplus"} else (-infinite, infinite))


def _into(best: Tensor, low: float, high: float) -> tuple[float, float]:
    """Factor and offset that bring an output from the middle of its room to the targets."""
    smallest, spread = float(best.min()), float(best.max() - best.min()) or 1.0
    width = 0.8 * (high - low) if high < float("inf") else 3.0
    return spread / width, smallest - spread / width * (
        low + (0.1 * (high - low) if high < float("inf") else 0.1)
    )


def _normalise(setup: Setup) -> None:
    """With the numbers of the checkup's batch, as of a training set."""
    known = [_statistics(tensor) for tensor in tensors_in(setup.batch)]

    def feed(batch: Any) -> Any:
        ahead = iter(known)
        return mapped(batch, lambda tensor: _with(tensor, next(ahead)))

    setup.feed.append(feed)


def _statistics(tensor: Tensor) -> tuple[Tensor, Tensor] | None:
    if not tensor.is_floating_point() or tensor.dim() < 2:
        return None
    finite = torch.nan_to_num(tensor.float(), nan=0.0, posinf=0.0, neginf=0.0)
    # Of each feature; for pictures and sequences of each channel, which is what people do.
    over = [0] if tensor.dim() == 2 else [0, 1] if tensor.dim() == 3 else [0, *range(2, tensor.dim())]
    return finite.mean(over, keepdim=True), finite.std(over, keepdim=True)


def _with(tensor: Tensor, known: tuple[Tensor, Tensor] | None) -> Tensor:
    if known is None:
        return tensor
    mean, spread = known
    finite = torch.nan_to_num(tensor.float(), nan=0.0, posinf=0.0, neginf=0.0)
    return ((finite - mean) / (spread + 1e-6)).to(tensor.dtype)


def _float32(setup: Setup) -> None:
    setup.model.float()
    setup.feed.append(
        lambda batch: mapped(batch, lambda one: one.float() if one.is_floating_point() else one)
    )
