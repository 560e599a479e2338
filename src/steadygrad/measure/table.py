"""Which parameters an optimizer holds, what they are called, and which group each is in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from steadygrad.measure.hyper import GroupHyper, group_hyper
from steadygrad.records import TensorInfo

_COMPILED_PREFIX = "_orig_mod."
_PARALLEL_PREFIX = "module."


def parameter_names(model: nn.Module) -> dict[int, str]:
    """Qualified name by ``id(parameter)``, in model order; tied weights keep their first name.

    The prefixes that ``torch.compile`` and ``DistributedDataParallel`` add are left out: names are
    those of the user's own module tree.
    """
    named = [(id(p), name.replace(_COMPILED_PREFIX, "")) for name, p in model.named_parameters()]
    if named and all(name.startswith(_PARALLEL_PREFIX) for _, name in named) and _is_wrapper(model):
        named = [(key, name.removeprefix(_PARALLEL_PREFIX)) for key, name in named]
    return dict(named)


def _is_wrapper(model: nn.Module) -> bool:
    return type(model).__name__ in {"DistributedDataParallel", "DataParallel", "FullyShardedDataParallel"}


class ParamTable:
    """The parameters of one optimizer in model order, with their names and groups.

    Groups may grow (``add_param_group``): `grown` is cheap enough to ask at every step, and new
    parameters are appended, so positions never change.

    Args:
        names: qualified name by ``id(parameter)``, from `parameter_names`.
        groups: the optimizer's ``param_groups``, or one group made of the model's parameters.
        optimizer: index of the optimizer.
    """

    def __init__(
        self, names: Mapping[int, str], groups: Sequence[Mapping[str, Any]], optimizer: int = 0
    ) -> None:
        self.params: list[Tensor] = []
        self.tensors: list[TensorInfo] = []
        self.group_of: list[int] = []
        self._names = names
        self._optimizer = optimizer
        self._known: set[int] = set()
        self._sizes: list[int] = []
        self._lrs: list[Any] = []
        self._hyper: tuple[GroupHyper, ...] = ()
        self.extend(groups)

    def __len__(self) -> int:
        """Number of parameters."""
        return len(self.params)

    def grown(self, groups: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the groups hold parameters the table doesn't know yet."""
        return [len(group["params"]) for group in groups] != self._sizes

    def extend(self, groups: Sequence[Mapping[str, Any]]) -> list[TensorInfo]:
        """Append the parameters not known yet, in model order; returns their entries."""
        self._sizes = [len(group["params"]) for group in groups]
        fresh = [entry for entry in _entries(groups) if id(entry[2]) not in self._known]
        order = {key: position for position, key in enumerate(self._names)}
        fresh.sort(key=lambda entry: order.get(id(entry[2]), len(order)))
        added = []
        for group, position, param in fresh:
            name = self._names.get(id(param), f"group{group}.param{position}")
            added.append(_tensor_info(name, param, self._optimizer))
            self.params.append(param)
            self.group_of.append(group)
            self._known.add(id(param))
        self.tensors.extend(added)
        return added

    def hyper(self, groups: Sequence[Mapping[str, Any]]) -> tuple[GroupHyper, ...]:
        """Learning rate, momentum and kind of each group, re-read only when a rate changed."""
        lrs = [(group.get("lr"), group.get("momentum")) for group in groups]
        # A rate kept as a tensor changes in place, so an equal object proves nothing.
        if lrs != self._lrs or not self._hyper or any(isinstance(lr, Tensor) for lr, _ in lrs):
            self._lrs = lrs
            self._hyper = tuple(group_hyper(group) for group in groups)
        return self._hyper


def _entries(groups: Iterable[Mapping[str, Any]]) -> list[tuple[int, int, Tensor]]:
    return [
        (group_index, position, param)
        for group_index, group in enumerate(groups)
        for position, param in enumerate(group["params"])
    ]


def _tensor_info(name: str, param: Tensor, optimizer: int) -> TensorInfo:
    dtype = str(param.dtype).removeprefix("torch.")
    # A lazy module's parameter has no shape before its first forward pass.
    shape = () if nn.parameter.is_lazy(param) else tuple(param.shape)
    return TensorInfo(name, shape, dtype, optimizer, param.requires_grad)
