"""A step that isn't finite: where it begins."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from steadygrad.blame import blamed
from steadygrad.checkup.look import Look
from steadygrad.detect.finding import make
from steadygrad.records import Finding
from steadygrad.tracing import trace


def broken(seen: Look) -> Iterator[Finding]:
    """The origin of a non-finite loss or gradient."""
    bad = [
        name for name, grad in seen.grads.items() if grad is not None and not bool(torch.isfinite(grad).all())
    ]
    if math.isfinite(seen.loss) and not bad:
        return
    kind = "nonfinite_gradient" if math.isfinite(seen.loss) else "nonfinite_loss"
    finding = make(
        kind,
        "error",
        0,
        f"The first step is not finite: loss {seen.loss:.3g}, {len(bad)} gradients with NaN or Inf.",
        where=bad,
        evidence={"gradients": len(bad), "loss": seen.loss},
    )
    origin = trace(seen.model, seen.batch, seen.loss_fn)
    yield finding if origin is None else blamed(finding, origin)
