"""What a monitor is put together from: for each optimizer a table of its parameters and a track; and whether they are well."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.detect import nonfinite_parameter, ruined_state
from steadygrad.logbook import Logbook
from steadygrad.measure import HostNorms, ParamTable, device_norms, parameter_names
from steadygrad.policies import Policy
from steadygrad.recover import RECOVERY, BufferWatch, Rescue, tensors_of
from steadygrad.stepping import SkipStreak, Track

_GATHERED = frozenset(
    {
        *("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "exp_avg_sq_row", "exp_avg_sq_col"),
        *("momentum_buffer", "square_avg", "grad_avg", "acc_delta", "sum", "row_var", "col_var"),
        *("prev", "ax", "d", "prev_flat_grad", "old_dirs", "old_stps"),
    }
)
"""What optimizers call what they gather of gradients and weights. In anything else an Inf may be meant: a minimum begins there."""


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
    """Weights that are ruined already would only show in the gradient of the next step, moments in the weights after it."""
    for track in tracks:
        names, of = track.lane.ruined(), len(track.table)
        if names:
            book.finding(nonfinite_parameter(0, names, of, track.index, guarded=mode == "guard"))
        moments = _ruined_moments(track)
        if moments:
            book.finding(ruined_state(moments, track.index))


def watch_buffers(model: nn.Module, book: Logbook, mode: str, rescue: Rescue | None, *, late: bool) -> None:
    """Say of buffers that are ruined, and that recovery doesn't put back."""

    def recovers() -> bool:
        return rescue is not None and rescue.is_on and RECOVERY not in book.containment.off

    watch = BufferWatch(model, book.keep, recovers, late=late, guarded=mode == "guard")
    watch.begin()
    book.listeners.append(("buffers check", watch.stepped))


def _ruined_moments(track: Track) -> list[tuple[str, str]]:
    """What the optimizer keeps of a parameter and isn't finite: its name for it, and the parameter's."""
    if track.optimizer is None:
        return []
    names = {
        id(param): info.name for param, info in zip(track.table.params, track.table.tensors, strict=True)
    }
    kept = [
        ((str(key), names[id(param)]), tensor)
        for param, entries in track.optimizer.state.items()
        if id(param) in names and isinstance(entries, Mapping)
        for key, value in entries.items()
        for tensor in tensors_of(value)
        if _is_moment(tensor)
    ]
    norms = _norms([tensor.detach() for _, tensor in kept])
    ill = [
        moment
        for (moment, _), norm in zip(kept, norms, strict=True)
        if math.isnan(norm) or (math.isinf(norm) and moment[0] in _GATHERED)
    ]
    return list(dict.fromkeys(ill))


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    if not tensors:
        return []
    if all(tensor.device.type == "cpu" for tensor in tensors):
        here: list[float] = HostNorms(tensors)(tensors)[0].tolist()
        return here
    there: list[float] = device_norms(tensors).tolist()
    return there


def _is_moment(tensor: Tensor) -> bool:
    """Whether it has numbers to be looked at; a single one may be a counter, and one of a byte is packed in some way."""
    is_plain = type(tensor) is Tensor and tensor.is_floating_point() and tensor.element_size() > 1
    return is_plain and tensor.dim() > 0 and tensor.numel() > 0
