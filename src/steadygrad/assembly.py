"""What a monitor is put together from: for each optimizer a table of its parameters and a track; and whether they are well."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from steadygrad.detect import nonfinite_parameter
from steadygrad.logbook import Logbook
from steadygrad.measure import ParamTable, parameter_names
from steadygrad.policies import Policy
from steadygrad.stepping import SkipStreak, Track


def tables_of(model: nn.Module, optimizers: Sequence[Optimizer]) -> list[ParamTable]:
    """The parameters of each optimizer, or those of the model in a loop without one."""
    names = parameter_names(model)
    groups = [one.param_groups for one in optimizers] or [[{"params": list(model.parameters())}]]
    return [ParamTable(names, some, index) for index, some in enumerate(groups)]


def tracks_of(
    optimizers: Sequence[Optimizer],
    tables: Sequence[ParamTable],
    policy: Policy | None,
    book: Logbook,
    *,
    max_skips: int | None,
    overhead: float,
    late: bool | None,
    recovers: bool,
) -> tuple[Track, ...]:
    """One track for each table; of several optimizers each has a policy of its own."""
    held: Sequence[Optimizer | None] = optimizers or (None,)
    return tuple(
        Track(
            index,
            one,
            tables[index],
            policy if policy is None or index == 0 else policy.fresh(),
            streak=SkipStreak(max_skips),
            outlet=book,
            containment=book.containment,
            overhead=overhead,
            clock=book.spending.passed,
            late=late,
            recovers=recovers,
            spending=book.spending,
        )
        for index, one in enumerate(held)
    )


def tell_ruined(tracks: Sequence[Track], book: Logbook, mode: str) -> None:
    """Weights that are ruined already would only show in the gradient of the next step."""
    for track in tracks:
        names, of = track.lane.ruined(), len(track.table)
        if names:
            book.finding(nonfinite_parameter(0, names, of, track.index, guarded=mode == "guard"))
