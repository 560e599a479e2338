"""What the factory made, put into the state of the bundle, as often as it takes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.detect.finding import listed
from steadygrad.errors import UsageError
from steadygrad.measure import parameter_names
from steadygrad.replay.case import Case

_COMPILED_PREFIX = "_orig_mod."
_UNKNOWN = "?"


class Subject:
    """A model and its optimizer, which are put back to one state before each trial.

    Args:
        case: the bundle.
        model: from the factory; its weights are changed.
        optimizer: from the factory; None has one made like the run's.

    Attributes:
        notes: what is not as it was, for a person.

    Raises:
        UsageError: the state of the bundle doesn't fit.
    """

    def __init__(self, case: Case, model: nn.Module, optimizer: Optimizer | None) -> None:
        self.model = model
        self.notes: list[str] = []
        self._prefix = ""
        self._saved = case.state
        self._training = case.step["training"]
        params = self._params()
        if self._saved is None:
            why = case.bundle.facts["state_left_out"]
            self.notes.append(f"The bundle holds no weights ({why}): these are the factory's own.")
        else:
            self._check(self._saved["params"], params)
        self.optimizer = optimizer or self._like(case)
        self._before = copy.deepcopy(self.optimizer.state_dict())
        self._data = [(param, param.data) for param in self.weights()]
        self._own = self._present()

    def reset(self, dtype: torch.dtype | None = None) -> None:
        """Put everything back to the state of the bundle, or of the factory where that has none.

        Args:
            dtype: for all floating-point weights; None leaves each its own.
        """
        params, buffers, optimizer = self._own
        with torch.no_grad():
            for name, param in self._params().items():
                param.grad = None
                param.data = _cast(params[name], dtype, param.device)
            for name, value in buffers.items():
                owner, _, leaf = name.rpartition(".")
                module = self.model.get_submodule(owner)
                setattr(module, leaf, _cast(value, dtype, value.device))
        for name, module in self.model.named_modules():
            module.training = self._saved_mode(name, module)
        self.optimizer.load_state_dict(copy.deepcopy(optimizer))

    def leave(self) -> None:
        """Put back what the factory made; `reset` has never written to it."""
        for param, data in self._data:
            param.grad = None
            param.data = data
        self.optimizer.load_state_dict(self._before)

    def module(self, name: str) -> nn.Module:
        """A part of the model by its name in the run."""
        try:
            return self.model.get_submodule(name)
        except AttributeError:
            return self.model

    def weights(self) -> list[Tensor]:
        """The parameters."""
        return list(self._params().values())

    def _saved_mode(self, name: str, module: nn.Module) -> bool:
        own = name.replace(_COMPILED_PREFIX, "").removesuffix("_orig_mod")
        return self._prefix + own in self._training if self._training else module.training

    def _params(self) -> dict[str, nn.Parameter]:
        names = parameter_names(self.model)
        return {names[id(param)]: param for param in self.model.parameters()}

    def _check(self, saved: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> None:
        """Whether these are the same parameters; a model that was a part of another counts."""
        heads = {name.partition(".")[0] + "." for name in saved}
        fits = [head for head in ("", *sorted(heads)) if {head + name for name in params} <= set(saved)]
        missing = [name for name in params if name not in saved]
        if not fits:
            raise UsageError(
                f"the bundle's parameters don't fit the factory's model: {listed(missing)} {_are(missing)} not in the "
                f"bundle, which has {listed(list(saved))}. Let the factory make the model of that run."
            )
        self._prefix = fits[0]
        for name, param in params.items():
            there = saved[self._prefix + name]
            if there.shape != param.shape:
                raise UsageError(
                    f"the bundle's parameters don't fit the factory's model: {name} is {list(param.shape)}, and was "
                    f"{list(there.shape)} in the run. Let the factory make the model of that run."
                )
        left = [name for name in saved if name.removeprefix(self._prefix) not in params]
        if left and not self._prefix:
            raise UsageError(
                f"the bundle's parameters don't fit the factory's model: it has no {listed(left)}. Let the factory "
                "make the model of that run."
            )

    def _present(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
        """What `reset` puts back."""
        params = {name: param.detach().clone() for name, param in self._params().items()}
        buffers = {name: buffer.detach().clone() for name, buffer in self.model.named_buffers()}
        saved = self._saved
        if saved is None:
            return params, buffers, copy.deepcopy(self.optimizer.state_dict())
        for name, param in params.items():
            params[name] = saved["params"][self._prefix + name].to(param.device)
        for name, buffer in buffers.items():
            there = saved["buffers"].get(self._prefix + name.replace(_COMPILED_PREFIX, ""))
            if there is not None and there.shape == buffer.shape:
                buffers[name] = there.to(buffer.device)
        return params, buffers, self._fitted(self._kept_optimizer(saved["optimizers"]))

    def _kept_optimizer(self, kept: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """The optimizer of the run that this one stands for: the one that holds its parameters."""
        mine = set(self._names(self.optimizer))
        if self._prefix + _UNKNOWN in mine:
            raise UsageError(
                "the factory's optimizer holds parameters that aren't its model's. Let the factory make both together."
            )
        found = [one for one in kept if mine <= {name for group in one["names"] for name in group}]
        if not found:
            raise UsageError(
                "the factory's optimizer doesn't fit the bundle: no optimizer of the run held all of "
                f"{listed(sorted(mine))}. Let the factory give it the parameters that it had in the run."
            )
        kind = type(self.optimizer)
        if found[0]["type"].rpartition(".")[2] != kind.__name__:
            raise UsageError(
                f"the factory's optimizer is {kind.__name__}, the run's was {found[0]['type'].rpartition('.')[2]}. "
                "Let the factory make that, or none: then one is made like it."
            )
        return found[0]

    def _fitted(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """Its state in the order of this optimizer's parameters."""
        names = [name for group in kept["names"] for name in group]
        place = {name: position for position, name in enumerate(names)}
        group_of = {name: group for group, members in enumerate(kept["names"]) for name in members}
        saved, state, groups, count = kept["state_dict"], {}, [], 0
        for group in self.optimizer.param_groups:
            members = self._names_of(group["params"])
            for offset, name in enumerate(members):
                if place[name] in saved["state"]:
                    state[count + offset] = saved["state"][place[name]]
            kept_group = saved["param_groups"][group_of[members[0]]] if members else group
            groups.append({**kept_group, "params": list(range(count, count + len(members)))})
            count += len(members)
        return {"state": state, "param_groups": groups}

    def _names(self, optimizer: Optimizer) -> list[str]:
        return [name for group in optimizer.param_groups for name in self._names_of(group["params"])]

    def _names_of(self, params: Iterable[Tensor]) -> list[str]:
        names = parameter_names(self.model)
        return [self._prefix + names.get(id(param), _UNKNOWN) for param in params]

    def _like(self, case: Case) -> Optimizer:
        """An optimizer like that of the run."""
        kept: Mapping[str, Any] = case.state["optimizers"][case.optimizer] if case.state else {}
        name = str(kept.get("type", ""))
        kind = getattr(torch.optim, name.rpartition(".")[2], None)
        if not name.startswith("torch.optim.") or kind is None:
            what = f"it was {name}" if name else "the bundle holds no optimizer"
            raise UsageError(
                f"the factory returned no optimizer, and none can be made for it ({what}). Let it return "
                "(model, batch, loss_fn, optimizer)."
            )
        params = {self._prefix + name: param for name, param in self._params().items()}
        groups = []
        for names, group in zip(kept["names"], kept["state_dict"]["param_groups"], strict=True):
            members = [params[name] for name in names if name in params]
            if members:
                groups.append({**group, "params": members})
        made: Optimizer = kind(groups, lr=groups[0]["lr"])
        return made


def _cast(value: Tensor, dtype: torch.dtype | None, device: torch.device) -> Tensor:
    wanted = dtype if dtype is not None and value.is_floating_point() else value.dtype
    return value.to(device, wanted, copy=True)


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
