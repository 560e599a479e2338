"""Why a script's loss isn't finite: what its graph tells, and which of the script's variables brought it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from steadygrad.launch.arm.by_hand import HandSeat
from steadygrad.launch.arm.objects import broken_variable, parameter_behind
from steadygrad.launch.arm.seat import Seat
from steadygrad.launch.arm.tree import module_of
from steadygrad.origin import BESIDE, VARIABLE
from steadygrad.tracing import Broken, broken_loss
from steadygrad.tracing.finiteness import broken_rows


def broken_by(loss: Tensor) -> Broken | None:
    """Where a loss became non-finite, in the script's own words where they are at hand.

    The graph knows a target only as a tensor that came in from outside: whether it was broken in the data, or
    the loss has made it so, is told by the variables that the script holds.

    Args:
        loss: what a backward pass is about to start from; its graph must still be there.
    """
    broken = broken_loss(loss, module_of)
    if broken is None or broken.met is None:
        return broken
    # It may be large, and what is known is kept until the step has ended.
    met, broken = broken.met, broken._replace(met=None)
    found = broken_variable(met) if broken.origin.operation == BESIDE else None
    if found is None:
        return broken
    name, data = found
    rows = broken_rows(data, len(data))
    return broken._replace(
        origin=replace(broken.origin, phase="input", operation=f"{VARIABLE}{name}", rows=rows)
    )


def concerns_none(loss: Tensor, *known: Sequence[Seat] | Sequence[HandSeat]) -> bool:
    """Whether this is the loss of a training that begins only now: a parameter of it is nobody's that is known."""
    param = parameter_behind(loss)
    return param is not None and not any(id(param) in seat.ids for seats in known for seat in seats)
