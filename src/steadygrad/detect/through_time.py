"""The gradient on its way back through the time steps of a recurrent module.

Shape legend: T time steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from steadygrad.detect.finding import make
from steadygrad.records import Finding, Remedy

LOST = 1e-4
"""Growth over the whole sequence, either way, that counts: ten thousandfold."""

AMPLIFIED = 100.0
"""Largest gradient over what came in from the loss, up to which nothing has exploded, however small the near end is: a
trained model of sequences is sure of its last steps, which then have no gradient of their own beside the first."""

HOPELESS = 1e-8
"""Below float32's resolution of the last step's gradient: no optimizer makes up for it."""

FLOAT32_EPS = 2.0**-23
"""A contribution smaller than this share of the largest is lost when float32 adds them up."""

CLOSED = 0.3
"""Factor per time step below which a gated cell is no longer one that only begins half closed: an LSTM of torch's
own initialisation starts at about 0.5 (its forget gate is a sigmoid around 0) and learns to open."""


class Growth(Protocol):
    """Growth through time in one module, as `steadygrad.gains.TimeGain` measures it."""

    @property
    def module(self) -> str:
        """Qualified name."""

    @property
    def grad_norms(self) -> Sequence[float]:
        """Gradient norm at each time step ``[T]``."""

    @property
    def gated(self) -> bool:
        """Whether it is an LSTM or a GRU."""

    @property
    def both_ways(self) -> bool:
        """Whether it also reads from the end."""

    @property
    def per_step(self) -> float:
        """Fitted growth for each time step back."""

    @property
    def rise(self) -> float:
        """Gradient at the far end relative to the near end."""

    @property
    def amplified(self) -> float:
        """Largest gradient relative to what came in from the loss; Inf where that isn't known."""

    @property
    def total(self) -> float:
        """Gradient at the far end relative to the largest."""

    @property
    def horizon(self) -> int:
        """Time steps of which float32 still hears something."""


def through_time(one: Growth, step: int = 0, *, guarded: bool = False) -> Finding | None:
    """Judge the growth of the gradient through time.

    Args:
        one: what was measured.
        step: the optimizer step it was measured in.
        guarded: a guard is attached already.

    Returns:
        ``exploding_in_time`` where it grows ten thousandfold or more over the sequence, and beyond what came in;
        ``vanishing_in_time`` where float32 hears nothing of the first time step; None otherwise.
    """
    if one.rise > 1 / LOST and one.amplified > AMPLIFIED:
        return make(
            "exploding_in_time",
            "error" if one.rise > 1 / HOPELESS else "warning",
            step,
            f"The gradient grows x{one.per_step:.3g} for each time step back through {one.module or 'the model'}: "
            f"{one.rise:.1e} over {len(one.grad_norms)} steps.",
            where=[one.module or "the model"],
            evidence=_numbers(one),
            guarded=guarded,
        )
    return _vanishing(one, step, guarded=guarded) if one.total < FLOAT32_EPS else None


def _vanishing(one: Growth, step: int, *, guarded: bool) -> Finding:
    # A gated cell starts half closed and learns to open: no alarm before it has had the chance.
    half_closed = one.gated and one.per_step > CLOSED
    last = "" if one.both_ways else "the last "
    finding = make(
        "vanishing_in_time",
        "info" if half_closed else "warning",
        step,
        f"The gradient shrinks x{one.per_step:.3g} for each time step back through {one.module or 'the model'}: "
        f"only {last}{one.horizon} of {len(one.grad_norms)} steps teach anything.",
        where=[one.module or "the model"],
        evidence=_numbers(one),
        guarded=guarded,
    )
    if not one.gated:
        return finding
    closed = "The forget gate starts half closed (a sigmoid around 0), and the cell has to learn to open it."
    return replace(finding, causes=(closed, *finding.causes), remedies=_gates_first(finding))


def _numbers(one: Growth) -> dict[str, float]:
    return {
        "gain per time step": one.per_step,
        "horizon": one.horizon,
        "time steps": len(one.grad_norms),
    }


def _gates_first(finding: Finding) -> tuple[Remedy, ...]:
    return tuple(sorted(finding.remedies, key=lambda remedy: "forget" not in remedy.action))
