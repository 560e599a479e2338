"""What a model answers, told from its output and the gradient that comes back to it: no label and no loss is needed.

Behind a cross-entropy the gradient of a row is ``s * (p - onehot)``: wherever it is positive its ratio to ``p`` is the
same ``s``, and where it is negative there is the label.

Shape legend: N rows (positions), C classes or numbers in a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from steadygrad.calling import tensors_in

NUMBERS = 11
"""Of one look, as `steadygrad.detect.answers.Answers` has them."""

MOST_VALUES = 262_144
"""Elements looked at: rows are thinned out evenly beyond it."""

LEAST_VALUES = 16
"""Smaller outputs say nothing."""

_CLOSE = 0.01
_TINY = 1e-30


def listen(output: Any, tell: Callable[[Tensor, Tensor], None]) -> None:
    """Call ``tell(values, grad)`` once the backward pass has reached a model's first floating output."""
    made = next((one for one in tensors_in(output) if one.is_floating_point() and one.requires_grad), None)
    if made is None or type(made) is not Tensor or made.dim() == 0 or made.numel() < LEAST_VALUES:
        return
    values = made.detach()

    def heard(grad: Tensor | None) -> None:
        # None where the node behind it got a gradient for another of its outputs only.
        if grad is not None:
            tell(values, grad)

    made.register_hook(heard)  # type: ignore[no-untyped-call]


def answers(output: Tensor, grad: Tensor) -> Tensor:
    """Eleven numbers on the device, float32 ``[11]``.

    Args:
        output: what the model returned, its last dimension classes or numbers.
        grad: gradient of the loss with respect to it.
    """
    with torch.no_grad():
        logits, pulls = _rows(output.detach()), _rows(grad.detach())
        classes = _classes(logits, pulls) if logits.shape[1] > 1 else torch.zeros(7, device=logits.device)
        return torch.cat([classes, _regression(output.detach(), grad.detach())])


def _rows(values: Tensor) -> Tensor:
    flat = values.reshape(-1, values.shape[-1]) if values.dim() > 1 else values.reshape(-1, 1)
    return flat[:: max(1, -(-flat.numel() // MOST_VALUES))].float()


def _classes(logits: Tensor, pulls: Tensor) -> Tensor:
    """Rows that count, whether it is a cross-entropy, its mean, what answers are apart, first and last label, entropy."""
    counts = (pulls != 0).any(1)
    logp = logits.log_softmax(1)
    prob = logp.exp()
    up = pulls.clamp_min(0.0)
    scale = up.sum() / prob.where(pulls > 0, 0.0).sum().clamp_min(_TINY)
    off = (up - scale * prob).where(pulls > 0, 0.0).abs().sum() / up.sum().clamp_min(_TINY)
    one_label = ((pulls < 0).sum(1) == 1) | ~counts
    fits = (off < _CLOSE) & one_label.all() & counts.any()
    label = pulls.argmin(1)
    rows = counts.sum().clamp_min(1)
    loss = -(logp.gather(1, label[:, None])[:, 0].where(counts, 0.0)).sum() / rows
    mean = (prob * counts[:, None]).sum(0) / rows
    apart = (prob * (logp - mean.clamp_min(_TINY).log())).sum(1).where(counts, 0.0).sum() / rows
    first = label.where(counts, label.max()).min()
    # Each label that was seen makes the estimate too low by half of one in N (Miller 1955).
    share = torch.zeros_like(mean).scatter_add(0, label, counts.float()) / rows
    entropy = torch.special.entr(share).sum() + ((share > 0).sum() - 1) / (2 * rows)
    return torch.stack(
        [counts.sum(), fits, loss, apart, first, label.where(counts, 0).max(), entropy]
    ).float()


def _regression(output: Tensor, grad: Tensor) -> Tensor:
    """Of a mean of squares: its loss and that of the best constant; mean squares of the output and of its differences."""
    wide = output.float().reshape(len(output), -1)
    squares = grad.float().square().sum() * (grad.numel() / 4.0)
    apart = (wide - wide.mean(0)).square().mean()
    error = grad.float().reshape(wide.shape) * (grad.numel() / 2.0)
    # What all rows lack in common, a constant makes up for; what the answers already tell apart, it would lose.
    constant = (error - error.mean(0)).square().mean()
    return torch.stack([squares, constant, wide.square().mean(), apart])
