"""Does the gradient explode or vanish on its way back, over layers or over time?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from steadygrad.checkup.look import Look
from steadygrad.checkup.weights import cause_and_cure
from steadygrad.detect.finding import make
from steadygrad.detect.through_time import through_time
from steadygrad.gains import Gains
from steadygrad.records import Finding
from steadygrad.report.wording import layer

LOST = 1e-4
"""Share of the last layer's gradient that must reach the first. PyTorch's own initialisation multiplies it
by about 0.4 a layer, so ten plain layers pass, and thirty don't; residual nets are at 1."""

HOPELESS = 1e-8
"""Below float32's resolution of the last layer's gradient: no optimizer makes up for it."""

OVERFLOWED = 1e4
"""Growth of the signal until it overflowed above which its growth, not an operation, is to blame."""


def growth(seen: Look) -> Iterator[Finding]:
    """Explosions and vanishings that the very first step shows."""
    for finding in _over_layers(seen.gains):
        yield cause_and_cure(finding, seen)
    for one in seen.gains.time:
        told = through_time(one)
        if told is not None:
            yield told


def overflow(seen: Look) -> Iterator[Finding]:
    """Where a step wasn't finite: whether the signal had grown layer by layer, or step by step, until then."""
    for one in seen.gains.time:
        grown, per_step = _grown(one.signals), one.signal_per_step
        if grown > OVERFLOWED and per_step > 1:
            yield make(
                "exploding_in_time",
                "error",
                0,
                f"The state of {one.module or 'the model'} grows x{per_step:.3g} for each time step until it overflows.",
                where=[one.module or "the model"],
                evidence={"signal per time step": per_step, "time steps": len(one.signals)},
            )
            return
    signals, per_layer = seen.gains.signals, seen.gains.signal_per_layer
    if len(signals) > 3 and _grown(signals) > OVERFLOWED and per_layer > 1:
        finding = make(
            "exploding_gradient",
            "error",
            0,
            f"The signal grows x{per_layer:.3g} for each of {len(signals)} layers until it overflows.",
            evidence={"signal per layer": per_layer, "layers": len(signals)},
        )
        yield cause_and_cure(finding, seen)


def _grown(signals: Sequence[float]) -> float:
    first = next((value for value in signals if value > 0), 0.0)
    finite = [value for value in signals if math.isfinite(value)]
    return max(finite) / first if first > 0 and finite else 1.0


def _over_layers(gains: Gains) -> Iterator[Finding]:
    total, part = gains.total, gains.stretch
    if len(gains.layers) < 3 or LOST <= total <= 1 / LOST or math.isnan(total):
        return
    explodes = total > 1
    hopeless = not HOPELESS <= total <= 1 / HOPELESS
    yield make(
        "exploding_gradient" if explodes else "vanishing_gradient",
        "error" if hopeless else "warning",
        0,
        f"On its way back the gradient {'grows' if explodes else 'shrinks'} x{part.per_layer:.3g} per layer from "
        f"{layer(part.last)} to {layer(part.first)}: {part.factor:.1e} in all."
        if total > 0
        else f"No gradient at all reaches {layer(gains.layers[0].module)}: on its way back it shrinks x{gains.per_layer:.3g} "
        "per layer, and then is 0.",
        where=[part.first, part.last],
        evidence={
            "gain per layer": part.per_layer,
            "gain in all": total,
            "signal per layer": gains.signal_per_layer,
            "layers": len(gains.layers),
        },
    )
