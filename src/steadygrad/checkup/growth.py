"""Does the gradient explode or vanish on its way back, over layers or over time?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from steadygrad.checkup.look import Look
from steadygrad.detect.finding import make
from steadygrad.gains import FLOAT32_EPS, Gains, TimeGain
from steadygrad.records import Finding

LOST = 1e-4
"""Share of the last layer's gradient that must reach the first. PyTorch's own initialisation multiplies it
by about 0.4 a layer, so ten plain layers pass, and thirty don't; residual nets are at 1."""

HOPELESS = 1e-8
"""Below float32's resolution of the last layer's gradient: no optimizer makes up for it."""


def growth(seen: Look) -> Iterator[Finding]:
    """Explosions and vanishings that the very first step shows."""
    yield from _over_layers(seen.gains)
    for one in seen.gains.time:
        yield from _over_time(one)


def _over_layers(gains: Gains) -> Iterator[Finding]:
    total, (first, last, _) = gains.total, gains.stretch
    if len(gains.layers) < 3 or LOST <= total <= 1 / LOST or math.isnan(total):
        return
    explodes = total > 1
    hopeless = not HOPELESS <= total <= 1 / HOPELESS
    verb = "grows" if explodes else "shrinks"
    yield make(
        "exploding_gradient" if explodes else "vanishing_gradient",
        "error" if hopeless else "warning",
        0,
        f"On its way back the gradient {verb} x{gains.per_layer:.3g} per layer from {last} to {first}: "
        f"{total:.1e} in all.",
        where=[first, last],
        evidence={"gain per layer": gains.per_layer, "gain in all": total, "layers": len(gains.layers)},
    )


def _over_time(one: TimeGain) -> Iterator[Finding]:
    name = one.module or "the model"
    evidence = {"gain per time step": one.per_step, "horizon": one.horizon, "time steps": len(one.grad_norms)}
    if one.rise > 1 / LOST:
        yield make(
            "exploding_in_time",
            "error" if one.rise > 1 / HOPELESS else "warning",
            0,
            f"The gradient grows x{one.per_step:.3g} for each time step back through {name}: {one.rise:.1e} over "
            f"{len(one.grad_norms)} steps.",
            where=[name],
            evidence=evidence,
        )
    elif one.total < FLOAT32_EPS:
        # A gated cell starts half closed and learns to open: no alarm before it has had the chance.
        yield make(
            "vanishing_in_time",
            "info" if one.gated and one.total > 0.0 else "warning",
            0,
            f"The gradient shrinks x{one.per_step:.3g} for each time step back through {name}: only the last "
            f"{one.horizon} of {len(one.grad_norms)} steps teach anything.",
            where=[name],
            evidence=evidence,
        )
