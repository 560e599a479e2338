"""How far a rate is from the one that breaks."""

from __future__ import annotations

from steadygrad.checkup.rehearsal import Setup

MARGIN = 3.0
"""Times its own rate that a remedy is run at: batches differ in curvature by about as much, and it grows while a training
learns (Cohen et al. 2021, arXiv:2103.00065, figure 1)."""


def hurry(setup: Setup) -> None:
    """Make each step at `MARGIN` times the rate, whoever sets it.

    Args:
        setup: its optimizer's rates are raised before each step and put back after it.
    """
    own: list[float] = []

    def back(setup: Setup, number: int) -> None:
        del number
        for group, lr in zip(setup.optimizer.param_groups, own, strict=False):
            group["lr"] = lr

    def ahead(setup: Setup, number: int) -> None:
        del number
        own[:] = [group["lr"] for group in setup.optimizer.param_groups]
        for group in setup.optimizer.param_groups:
            group["lr"] = MARGIN * group["lr"]

    setup.before_step.insert(0, back)
    setup.before_step.append(ahead)
