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
        lost = float(group.get("eps", 1.0)) <= SMALLEST
        if lost and any(param.dtype == torch.float16 for param in group["params"]):
            finding = make(
                "nonfinite_parameter",
                "error",
                0,
                f"The optimizer's epsilon {group['eps']:.0e} is 0 in float16, the dtype of its weights: where a gradient "
                "is 0 it divides 0 by 0.",
                evidence={"eps": float(group["eps"]), "smallest of float16": 2.0**-24},
            )
            larger = Remedy("Enlarge epsilon", f"{type(seen.optimizer).__name__}(params, eps=1e-4)")
            causes = sorted(finding.causes, key=lambda cause: "epsilon" not in cause)
            yield replace(
                finding, causes=tuple(causes), remedies=(finding.remedies[-1], larger, *finding.remedies[:-1])
            )
            return
