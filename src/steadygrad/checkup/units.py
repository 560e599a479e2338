"""Units that output the same for every row: dead, or stuck at the end of their activation.

Shape legend: S samples (rows, positions), U units.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from steadygrad.checkup.look import Look
from steadygrad.detect.finding import make
from steadygrad.records import Finding

DEAD = 0.9
"""Share of a layer's units at 0 for every row. Half are normal in a deep plain ReLU network at its start
(its rows grow alike), and AUTOTRAINER's 0.7 of all gradient elements counts sparse layers as dead."""

STUCK = 0.7
"""Share of a layer's outputs within 1 % of the ends of tanh or sigmoid."""

HARMS = 0.8
"""Share beyond which a saturated layer passes next to nothing on; below it the others go on learning."""

DAMPED = 1e-2
"""Share of the last layer's gradient at the first that shows that saturation costs something."""

COLLAPSED = 1e-3
"""Spread of the output over the rows, over its size: below it the output hardly depends on the input."""

LEAST_SAMPLES = 8


def units(seen: Look) -> Iterator[Finding]:
    """Dead and saturated layers, one finding for each kind, and an output that is the same for every row."""
    yield from _same_for_all(seen)
    shares = {name: _dead_share(fired) for name, fired in seen.fired.items() if len(fired) >= LEAST_SAMPLES}
    dead = {name: share for name, share in shares.items() if share >= DEAD}
    output = seen.output_tensor
    silent = output is not None and output.dim() > 1 and "Relu" in seen.output_node and not output.any()
    if dead or silent:
        worst = max([*dead.values(), 1.0 if silent else 0.0])
        where = [*dead, *(["output"] if silent else [])]
        yield make(
            "dead_units",
            "error" if worst == 1.0 else "warning",
            0,
            f"{worst:.0%} of the units that feed {where[0]} are 0 for every row of the batch: no gradient passes.",
            where=where,
            evidence={"share": worst, "layers": len(where)},
        )
    stuck = {name: _stuck_share(fired) for name, fired in seen.fired.items() if len(fired) >= LEAST_SAMPLES}
    stuck = {name: share for name, share in stuck.items() if share >= STUCK}
    if stuck:
        name = max(stuck, key=lambda one: stuck[one])
        yield make(
            "saturated_units",
            "warning" if stuck[name] >= HARMS or seen.gains.total < DAMPED else "info",
            0,
            f"{stuck[name]:.0%} of the values that feed {name} lie at the ends of their activation, where its slope "
            "is next to 0.",
            where=sorted(stuck, key=lambda one: -stuck[one]),
            evidence={"share": stuck[name], "layers": len(stuck)},
        )


def _same_for_all(seen: Look) -> Iterator[Finding]:
    """A signal that has lost what told the rows apart: a deep plain network's typical end."""
    output = seen.output_tensor
    if output is None or output.dim() < 2 or len(output) < LEAST_SAMPLES or "Softmax" in seen.output_node:
        return
    wide = output.double()
    size, spread = float(wide.square().mean().sqrt()), float((wide - wide.mean(0)).square().mean().sqrt())
    if 0 < spread < COLLAPSED * size and len(seen.gains.layers) > 3:
        yield make(
            "vanishing_gradient",
            "warning",
            0,
            f"The output is nearly the same for every row (it varies by {spread / size:.1e} of its size): the signal "
            "dies on its way through the layers.",
            where=[seen.gains.layers[-1].module],
            evidence={"spread over rows": spread / size, "layers": len(seen.gains.layers)},
        )


def _dead_share(fired: Tensor) -> float:
    return float((fired == 0).all(dim=0).float().mean())


def _stuck_share(fired: Tensor) -> float:
    """Share at the ends of tanh, or of sigmoid; exact zeros are a ReLU's or a dropout's and not counted."""
    low, high = float(fired.min()), float(fired.max())
    if low < -0.5 and high > 0.5 and max(-low, high) <= 1.0:
        return float((fired.abs() > 0.99).float().mean())
    inside = (fired != 0) & (fired != 1)
    if low >= 0.0 and high <= 1.0 and bool(inside.float().mean() > 0.5) and high > 0.5:
        return float(((fired < 0.01) | (fired > 0.99)).float().mean())
    return 0.0
