"""Gradients that half precision rounds to 0: the twin of its overflow, shown by a second backward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from steadygrad.calling import call_model, loss_of
from steadygrad.checkup.look import Look, eagerly
from steadygrad.detect.finding import listed, make
from steadygrad.preserve import backward_into, preserved
from steadygrad.records import Finding, Remedy

SCALE = 2.0**16
"""The scale that `torch.amp.GradScaler` begins with."""


def underflow(seen: Look) -> Iterator[Finding]:
    """Tensors whose gradient is exactly 0 as it is, and isn't where the loss is multiplied before the backward pass.

    Asked only where something is computed in float16. The same factor is what a gradient scaler puts in.
    """
    half = bool(seen.peaks) or any(param.dtype == torch.float16 for param in seen.model.parameters())
    zero = [name for name, grad in seen.grads.items() if grad is not None and not bool(grad.any())]
    if not half or not zero or not math.isfinite(seen.loss):
        return
    awake = _awake(seen)
    lost = [name for name in zero if name in awake]
    if not lost:
        return
    finding = make(
        "vanishing_gradient",
        "error" if len(lost) == len(seen.grads) else "warning",
        0,
        f"The gradients of {len(lost)} of {len(seen.grads)} tensors ({listed(lost)}) are exactly 0 in float16, and are "
        f"not with the loss multiplied by {SCALE:,.0f}: they underflow.",
        where=lost,
        evidence={"tensors": len(lost), "of": len(seen.grads), "smallest of float16": 2.0**-24},
    )
    cause = f"float16 rounds what is below {2.0**-25:.0e} to 0, and no loss scaler is at work."
    scaler = Remedy("Scale the loss", 'scaler = torch.amp.GradScaler("cuda"); scaler.scale(loss).backward()')
    wider = Remedy(
        "Use bfloat16, which has the range of float32", 'torch.autocast("cuda", dtype=torch.bfloat16)'
    )
    yield replace(finding, causes=(cause, *finding.causes), remedies=(scaler, wider))


def _awake(seen: Look) -> set[str]:
    """Parameters with a gradient once the loss is multiplied."""
    with preserved(seen.model, seen.loss_fn), torch.enable_grad(), eagerly():
        torch.clear_autocast_cache()
        loss = loss_of(call_model(seen.model, seen.batch), seen.batch, seen.loss_fn)
        backward_into(loss.float() * SCALE, seen.model.parameters())
        return {
            name
            for name, param in seen.model.named_parameters()
            if param.grad is not None and bool((param.grad != 0).any())
        }
