"""What an incident bundle holds: copied at once, since the next step changes all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from steadygrad.calling import tensors_in
from steadygrad.records import Reading
from steadygrad.recover.copies import nbytes
from steadygrad.recover.plain_values import plain
from steadygrad.recover.random_states import plain as plain_random
from steadygrad.recover.random_states import read_random_states
from steadygrad.recover.state import TrainingState
from steadygrad.tracing import Call

READINGS = 200
_COMPILED_PREFIX = "_orig_mod."
_ARRAYS = ("norms", "absent", "param_norms", "update_norms")


@dataclass(slots=True, eq=False)
class Evidence:
    """One bundle before it is written.

    Attributes:
        facts: for ``incident.json``.
        step: for ``step.pt``.
        state: for ``state.pt``; None where it is left out.
    """

    facts: dict[str, Any]
    step: dict[str, Any]
    state: dict[str, Any] | None

    def nbytes(self) -> int:
        """About what it takes on disk."""
        return nbytes(self.step) + nbytes(self.state or {})


def state_of(state: TrainingState) -> dict[str, Any]:
    """Parameters, buffers and optimizers, by the names of the user's own module tree."""
    params = state.params()
    names = {id(param): name for name, param in params.items()}
    return {
        "params": plain(params),
        "buffers": plain({_own(name): one for name, one in state.buffers().items()}),
        "optimizers": [_optimizer(one, names) for one in state.optimizers],
    }


def policies_of(tracks: Sequence[Any]) -> list[dict[str, Any]]:
    """What each optimizer's policy is, and has learnt."""
    found = [track.policy for track in tracks]
    return [{"call": repr(one), "learnt": plain(one.state_dict())} for one in found if one is not None]


def calls_as_values(calls: Sequence[Call], model: nn.Module | None) -> list[dict[str, Any]]:
    """The forward calls of a step: inputs, gradients that came back, random states before them."""
    names = {} if model is None else {id(one): _own(name) for name, one in model.named_modules()}
    names[id(model)] = ""
    return [
        {
            "module": names.get(id(call.module), ""),
            "args": plain(list(call.args)),
            "kwargs": plain(call.kwargs),
            "random": plain(call.random),
            "autocast": [list(one) for one in call.autocast],
            "gradients": plain(call.gradients),
        }
        for call in calls
    ]


def bytes_of_calls(calls: Sequence[Call]) -> int:
    """What the calls' tensors take."""
    return nbytes([tensors_in([call.args, call.kwargs, call.gradients]) for call in calls])


def around(model: nn.Module | None) -> dict[str, Any]:
    """Which modules were in training mode, and every random generator as it is now."""
    modules = () if model is None else model.named_modules()
    return {
        "training": [_own(name) for name, module in modules if module.training],
        "random": plain_random(read_random_states()),
    }


def readings_as_values(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """The newest Readings of each optimizer as columns: one tensor for all their norms."""
    newest = list(readings)[-READINGS:]
    lanes = sorted({reading.optimizer for reading in newest})
    return [_columns([one for one in newest if one.optimizer == lane]) for lane in lanes]


def readings_from_values(columns: Mapping[str, Any]) -> list[Reading]:
    """The Readings of one optimizer from its columns."""
    found = []
    for row in range(len(columns["step"])):
        entry = {name: column[row] for name, column in columns.items()}
        arrays = {
            name: None if entry[name] is None else entry[name].numpy() for name in _ARRAYS if name in entry
        }
        found.append(Reading(**{**entry, **arrays}))
    return found


def _columns(readings: Sequence[Reading]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for field in fields(Reading):
        values = [getattr(reading, field.name) for reading in readings]
        columns[field.name] = _arrays(values) if field.name in _ARRAYS else values
    return columns


def _arrays(values: Sequence[Any]) -> Any:
    """One tensor where all have one shape; else one each."""
    tensors = [None if one is None else torch.from_numpy(one.copy()) for one in values]
    present = [one for one in tensors if one is not None]
    alike = len({(one.shape, one.dtype) for one in present}) == 1 and len(present) == len(tensors)
    return torch.stack(present) if alike else tensors


def _optimizer(optimizer: Optimizer, names: Mapping[int, str]) -> dict[str, Any]:
    groups = [[names.get(id(param), "") for param in group["params"]] for group in optimizer.param_groups]
    kind = type(optimizer)
    return {
        "type": f"{kind.__module__}.{kind.__qualname__}",
        "names": groups,
        "state_dict": plain(_without_hooks(optimizer)),
    }


def _without_hooks(optimizer: Optimizer) -> dict[str, Any]:
    """Its ``state_dict``, built by hand: hooks of the user's on that are not to run at an incident."""
    index: dict[int, int] = {}
    for group in optimizer.param_groups:
        for param in group["params"]:
            index.setdefault(id(param), len(index))
    groups = [
        {**group, "params": [index[id(param)] for param in group["params"]]}
        for group in optimizer.param_groups
    ]
    state = {index[id(key)]: value for key, value in optimizer.state.items() if id(key) in index}
    return {"state": state, "param_groups": groups}


def _own(name: str) -> str:
    return name.replace(_COMPILED_PREFIX, "")
