"""Numbers near the end of what half precision can hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from steadygrad.checkup.look import Look
from steadygrad.detect.finding import make
from steadygrad.records import Finding, Remedy

LARGEST = 65504.0
"""Of float16."""

NEAR = LARGEST / 4
"""Signals grow by more than four within the first steps of many trainings."""

SMALLEST = 2.0**-25
"""What float16 rounds to 0: half of its smallest number."""


def precision(seen: Look) -> Iterator[Finding]:
    """Activations that nearly overflow, and an epsilon that is 0 in the weights' dtype."""
    high = {name: peak for name, peak in seen.peaks.items() if peak > NEAR}
    if high:
        worst = max(high, key=lambda name: high[name])
        yield make(
            "nonfinite_activation",
            "warning",
            0,
            f"{worst or 'The model'} returns values up to {high[worst]:.3g} in float16, which ends at {LARGEST:,.0f}: the "
            "next few steps may overflow.",
            where=sorted(high, key=lambda name: -high[name]),
            evidence={"largest value": high[worst], "limit": LARGEST},
        )
    yield from _epsilon(seen)


def _epsilon(seen: Look) -> Iterator[Finding]:
    groups = [] if seen.optimizer is None else seen.optimizer.param_groups
    for group in groups:
        eps = group.get("eps", 1.0)
        if not isinstance(eps, (int, float)):  # Adafactor has two, which aren't added to a denominator
            continue
        half = any(param.dtype == torch.float16 for param in group["params"])
        if eps == 0.0 and any(grad is not None and not bool(grad.all()) for grad in seen.grads.values()):
            yield _zero("The optimizer's epsilon is 0: where a gradient is 0 it divides 0 by 0.", eps, seen)
            return
        if eps <= SMALLEST and half:
            text = (
                f"The optimizer's epsilon {eps:.0e} is 0 in float16, the dtype of its weights: where a gradient is 0 it "
                "divides 0 by 0."
            )
            yield _zero(text, eps, seen)
            return


def _zero(summary: str, eps: float, seen: Look) -> Finding:
    finding = make(
        "nonfinite_parameter", "error", 0, summary, evidence={"eps": eps, "smallest of float16": 2.0**-24}
    )
    larger = Remedy("Enlarge epsilon", f"{type(seen.optimizer).__name__}(params, eps=1e-4)")
    causes = sorted(finding.causes, key=lambda cause: "epsilon" not in cause)
    return replace(
        finding, causes=tuple(causes), remedies=(finding.remedies[-1], larger, *finding.remedies[:-1])
    )
