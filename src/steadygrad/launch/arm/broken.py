"""Why a script's loss isn't finite: what its graph tells, and which of the script's variables brought it in."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from steadygrad.launch.arm.objects import broken_variable
from steadygrad.launch.arm.tree import module_of
from steadygrad.origin import BESIDE, VARIABLE
from steadygrad.tracing import Broken, broken_loss
from steadygrad.tracing.finiteness import broken_rows


def broken_by(loss: Tensor, *, slopes: bool = False) -> Broken | None:
    """Where a loss became non-finite, in the script's own words where they are at hand.

    The graph knows a target only as a tensor that came in from outside: whether it was broken in the data, or
    the loss has made it so, is told by the variables that the script holds.

    Args:
        loss: what a backward pass is about to start from; its graph must still be there.
        slopes: look into a finite loss too, see `broken_loss`.
    """
    broken = broken_loss(loss, module_of, slopes=slopes)
    if broken is None or broken.origin.operation != BESIDE:
        return broken
    found = broken_variable(nan=broken.origin.kind == "nan")
    if found is None:
        return broken
    name, data = found
    rows = broken_rows(data, len(data))
    return broken._replace(
        origin=replace(broken.origin, phase="input", operation=f"{VARIABLE}{name}", rows=rows)
    )
