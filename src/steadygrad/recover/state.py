"""Everything that makes a training's state, where it lives: the one list that copying and saving go by."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from steadygrad.measure import parameter_names
from steadygrad.policies.base import Policy
from steadygrad.recover.copies import Copies, nbytes, put_back
from steadygrad.recover.plan import Rollback
from steadygrad.recover.random_states import read_random_states


class Trained(Protocol):
    """One optimizer as recovery needs it; `steadygrad.stepping.Track` is one."""

    @property
    def policy(self) -> Policy | None:
        """What has learnt from every step so far; None only watches."""

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer, while it lives."""


# A lazy module's tensor has no values yet. As a plain function: mypy takes the guard for one that always succeeds.
_lazy: Callable[[Any], bool] = is_lazy


@dataclass(frozen=True)
class Live:
    """Tensors of a state where they live.

    Attributes:
        params: parameters by name.
        buffers: buffers by name.
        moments: each optimizer's state by parameter.
        average: parameters and buffers of the moving average.
    """

    params: dict[str, Tensor]
    buffers: dict[str, Tensor]
    moments: list[dict[Any, Any]]
    average: dict[str, Tensor]

    def nbytes(self) -> int:
        """Bytes of one copy."""
        return nbytes(list(vars(self).values()))

    def device(self) -> torch.device:
        """Where the parameters live; the first of them, where they are spread."""
        return next((param.device for param in self.params.values()), torch.device("cpu"))


class TrainingState:
    """The state of one training.

    What goes back in a rollback: parameters, buffers, optimizer state, the guard's own statistics, and
    where they were given a moving average and a ``GradScaler``. What is kept, but goes on: random
    generators, scheduler and loader. The loop can't be turned back, so its clock isn't either: a schedule
    would end late, and the same batches with the same noise would lead to the same place.

    Args:
        model: held weakly.
        tracks: its optimizers.
        plan: what else there is.
    """

    def __init__(self, model: nn.Module, tracks: Sequence[Trained], plan: Rollback) -> None:
        self._model = weakref.ref(model)
        self._tracks = tracks
        self._plan = plan

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers that are alive."""
        return [one for track in self._tracks if (one := track.optimizer) is not None]

    def params(self) -> dict[str, Tensor]:
        """Parameters of the model, and those that only an optimizer holds, by name."""
        model = self._model()
        names = {} if model is None else parameter_names(model)
        found: dict[str, Tensor] = {}
        if model is not None:
            params = ((name, param) for name, param in model.named_parameters() if not _lazy(param))
            found = {names.get(id(param), name): param for name, param in params}
        for index, optimizer in enumerate(self.optimizers):
            for group, position, param in _held(optimizer):
                if id(param) not in names:
                    found[f"optimizer{index}.group{group}.param{position}"] = param
        return found

    def buffers(self) -> dict[str, Tensor]:
        """Buffers of the model by name."""
        model = self._model()
        named = () if model is None else model.named_buffers()
        return {name: buffer for name, buffer in named if not _lazy(buffer)}

    def moments(self) -> list[dict[Any, Any]]:
        """Each optimizer's state, by parameter."""
        return [dict(optimizer.state) for optimizer in self.optimizers]

    def average(self) -> dict[str, Tensor]:
        """Parameters and buffers of the moving average, where one was given."""
        module = self._plan.average
        return {} if module is None else dict(module.state_dict(keep_vars=True))

    def live(self) -> Live:
        """All of it, as it is now."""
        return Live(self.params(), self.buffers(), self.moments(), self.average())

    def copy(self, live: Live, old: dict[str, Any] | None) -> dict[str, Any]:
        """Start copying everything to host memory, into the tensors of ``old`` where they fit.

        Args:
            live: what there is.
            old: a copy that is no longer needed.
        """
        before = old or {}
        copies = Copies()
        tensors = {**vars(live), "scaler": _scaler_tensors(self._plan.scaler)}
        kept = {key: copies.keep(value, before.get(key)) for key, value in tensors.items()}
        copies.start()
        kept["policies"] = [{} if t.policy is None else t.policy.state_dict() for t in self._tracks]
        kept["rest"] = self.rest()
        return kept

    def rest(self) -> dict[str, Any]:
        """Random generators, schedulers and the loader's position."""
        plan = self._plan
        found: dict[str, Any] = {"random": read_random_states()}
        found["schedulers"] = [dict(one.state_dict()) for one in plan.schedulers]
        if plan.loader is not None:
            found["loader"] = plan.loader.state_dict()
        return found

    def put_back(self, kept: Mapping[str, Any]) -> None:
        """Go back to a copy, as described above."""
        with torch.no_grad():
            for name in ("params", "buffers", "average"):
                live = getattr(self, name)()
                # What has joined since stays, and what has left is not called back.
                put_back(live, {key: one for key, one in kept[name].items() if key in live})
            for optimizer, moments in zip(self.optimizers, kept["moments"], strict=False):
                _put_back_moments(optimizer, moments)
            put_back(_scaler_tensors(self._plan.scaler), kept["scaler"])
        for track, learnt in zip(self._tracks, kept["policies"], strict=False):
            if track.policy is not None and learnt:
                track.policy.load_state_dict(learnt)

    def repair(self, kept: Mapping[str, Any], names: Sequence[str]) -> None:
        """Put only these buffers back."""
        live = self.buffers()
        with torch.no_grad():
            put_back(live, {key: kept["buffers"][key] for key in names if key in kept["buffers"]})


def _put_back_moments(optimizer: Optimizer, moments: Mapping[Any, Any]) -> None:
    for param in [key for key in optimizer.state if key not in moments]:
        # It had none yet: the optimizer makes it anew, with its counter at 0.
        del optimizer.state[param]
    held = {id(param) for _, _, param in _held(optimizer)}
    for param, kept in moments.items():
        if isinstance(param, Tensor) and id(param) not in held:
            continue  # it has left: of it the optimizer's own `state_dict` would know no name
        optimizer.state[param] = put_back(optimizer.state.get(param), kept)


def _held(optimizer: Optimizer) -> list[tuple[int, int, Tensor]]:
    return [
        (group, position, param)
        for group, entry in enumerate(optimizer.param_groups)
        for position, param in enumerate(entry["params"])
    ]


def _scaler_tensors(scaler: Any) -> dict[str, Tensor]:
    """Scale and growth counter of a ``GradScaler``: its ``state_dict`` would wait for the device."""
    names = ("_scale", "_growth_tracker")
    return {name: one for name in names if isinstance(one := getattr(scaler, name, None), Tensor)}
