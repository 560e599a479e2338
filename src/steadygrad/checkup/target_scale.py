"""Regression targets so far from where the output starts that the loss begins huge, or so small that it drowns them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from steadygrad.checkup.look import Look
from steadygrad.checkup.reach import is_target, reachable
from steadygrad.checkup.size import root_mean_square
from steadygrad.detect.finding import make
from steadygrad.records import Finding

FAR = 300.0
"""Root mean square of the way from the first output to the targets. Networks are initialised for outputs of about 1,
and those trained on targets of about 100 still arrive within a usual training."""

TINY = "The targets are in a unit in which they are tiny: metres for micrometres, volts for microvolts."

ORDINARY = 3.0
"""Root mean square of what a sound network begins with, at most: beyond it the network is too loud, or its input."""

BEYOND = 10.0
"""The same over the size of the output: a model that multiplies its output by a scale of its own has it in its reach."""

ARRIVES = 0.5
"""Share of the first loss that a few steps must leave: a linear model trains alike at any scale of its targets."""


def target_scale(seen: Look) -> Iterator[Finding]:
    """Targets that aren't scaled, unless the first steps come near them all the same."""
    output = seen.output_tensor
    # Neither squares nor distances are smaller than the way.
    if output is None or output.dim() == 0 or not seen.loss > FAR or math.isinf(seen.loss):
        return
    pair = _compared(seen, output.float())
    if pair is None:
        return
    given, start = pair
    size = root_mean_square(start)
    way = root_mean_square(given - start)
    if not way > max(FAR, BEYOND * size) or _trains(seen):
        return
    low, high = float(given.min()), float(given.max())
    yield make(
        "unscaled_targets",
        "warning",
        0,
        f"The targets run from {low:.4g} to {high:.4g}, and the output starts at {size:.3g} (root mean square): the first "
        f"loss is {seen.loss:.3g}, and every gradient is as much larger.",
        where=["targets"],
        evidence=_evidence(low, high, size, seen),
    )


def tiny_targets(seen: Look) -> Iterator[Finding]:
    """Targets so small that what an untrained network puts out is hundreds of times as large.

    Only targets that a loss of torch.nn was given: where a descent finds nearly 0, 0 may be what is asked for.
    """
    given, start = _told(seen) or (None, None)
    if given is None or start is None or given.isnan().any():
        return
    size, way = root_mean_square(start), root_mean_square(given)
    same = bool((given == given[0]).all())
    if same or not FAR * way < size < ORDINARY:
        return
    low, high = float(given.min()), float(given.max())
    finding = make(
        "unscaled_targets",
        "warning",
        0,
        f"The targets run from {low:.4g} to {high:.4g}, and the output starts at {size:.3g} (root mean square): what an "
        "untrained network says by chance is hundreds of times as large as all that it is asked to tell apart.",
        where=["targets"],
        evidence=_evidence(low, high, size, seen),
    )
    yield replace(finding, causes=(TINY, *finding.causes))


def _evidence(low: float, high: float, size: float, seen: Look) -> dict[str, float]:
    return {"lowest target": low, "highest target": high, "output scale": size, "first loss": seen.loss}


def _compared(seen: Look, output: Tensor) -> tuple[Tensor, Tensor] | None:
    """What the loss draws the output to, and that output; None where it draws it nowhere in particular."""
    told = _told(seen)
    if told is not None:
        return told
    best = reachable(seen.loss_at, output)
    if not math.isfinite(best.loss) or not best.loss < seen.loss or not is_target(seen.loss_at, best):
        return None
    return best.at, output


def _told(seen: Look) -> tuple[Tensor, Tensor] | None:
    """The targets that a loss of torch.nn was given, and what it compared with them."""
    told = [
        (one.values.float(), one.given.float().reshape(-1))
        for one in seen.targets
        if one.direct and one.given is not None and one.given.numel() == one.values.numel() > 0
    ]
    return max(told, key=lambda pair: float((pair[0] - pair[1]).abs().max()), default=None)


def _trains(seen: Look) -> bool:
    tried = seen.tried
    if tried is None:  # without an optimizer nobody knows; one layer alone has no inner scale
        return len(seen.gains.layers) < 2
    return tried.finite and min(tried.losses[-4:]) < ARRIVES * tried.losses[0]
