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

COLLAPSED = 1e-2
"""Spread of the directions that the rows point into where they feed the last layer: below it no layer behind can tell
them apart, however long they are. Plain networks lose it as they get deeper (Daneshmand et al. 2020,
arXiv:2003.01652). Of the tuning families the lowest healthy one has 0.089."""

LEAST_UNITS = 4
"""Fewer units have no directions to speak of."""

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
    name, fired = next(reversed(seen.fired.items()), ("", None))
    if (
        fired is None
        or len(fired) < LEAST_SAMPLES
        or fired.shape[1] < LEAST_UNITS
        or len(seen.gains.layers) < 3
    ):
        return
    spread = _directions(fired)
    if 0 < spread < COLLAPSED:
        yield make(
            "vanishing_gradient",
            "warning",
            0,
            f"What feeds {name} is nearly the same for every row but for its length (directions differ by {spread:.1e}): "
            "the signal dies on its way through the layers.",
            where=[name],
            evidence={"spread over rows": spread, "layers": len(seen.gains.layers)},
        )


def _directions(fired: Tensor) -> float:
    """Root mean square distance of the rows, brought to unit length, from their mean; NaN of nothing but zeros."""
    wide = fired.double()
    lengths = wide.norm(dim=1, keepdim=True)
    unit = wide[lengths[:, 0] > 0] / lengths[lengths[:, 0] > 0]
    return float((unit - unit.mean(0)).square().sum(1).mean().sqrt())


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
