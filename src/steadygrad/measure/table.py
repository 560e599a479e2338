"""Which parameters an optimizer holds, what they are called, and which group each is in."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from steadygrad.measure.hyper import GroupHyper, group_hyper
from steadygrad.measure.layout import Layout
from steadygrad.records import BoolArray, TensorInfo

_COMPILED_PREFIX = "_orig_mod."
_PARALLEL_PREFIX = "module."


class ParameterNames(dict[int, str]):
    """Qualified name by ``id(parameter)``, in model order, and the means to read them anew.

    Args:
        model: held weakly: names must not keep a model alive.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(_read_names(model))
        self._model = weakref.ref(model)

    def again(self) -> ParameterNames:
        """The names as they are now: a head may have been added, and an id given to another tensor."""
        model = self._model()
        return self if model is None else ParameterNames(model)


def parameter_names(model: nn.Module) -> ParameterNames:
    """Qualified name by ``id(parameter)``, in model order; tied weights keep their first name.

    The prefixes that ``torch.compile`` and ``DistributedDataParallel`` add are left out: names are
    those of the user's own module tree.
    """
    return ParameterNames(model)


def _read_names(model: nn.Module) -> dict[int, str]:
    named = [(id(p), name.replace(_COMPILED_PREFIX, "")) for name, p in model.named_parameters()]
    if named and all(name.startswith(_PARALLEL_PREFIX) for _, name in named) and _is_wrapper(model):
        named = [(key, name.removeprefix(_PARALLEL_PREFIX)) for key, name in named]
    return dict(named)


def _is_wrapper(model: nn.Module) -> bool:
    return type(model).__name__ in {"DistributedDataParallel", "DataParallel", "FullyShardedDataParallel"}


class Stranger(NamedTuple):
    """A parameter that has joined an optimizer whose rows are those of all ranks.

    Attributes:
        info: its name, shape and dtype.
        param: itself.
        group: index of its parameter group.
    """

    info: TensorInfo
    param: Tensor
    group: int


class ParamTable:
    """The parameters of one optimizer in model order, with their names and groups.

    Groups may change (``add_param_group``, a layer replaced by hand): `grown` is cheap enough to ask
    at every step. A position never changes its meaning. New parameters are appended, except where one
    of the same name and shape has left: its row goes on. The row of one that left for good holds an
    empty tensor, which never has a gradient; so does that of a tensor that only other ranks hold (`lay_out`).

    Args:
        names: qualified name by ``id(parameter)``; those of `parameter_names` are read anew when the
            groups have changed.
        groups: the optimizer's ``param_groups``, or one group made of the model's parameters.
        optimizer: index of the optimizer.

    Attributes:
        layout: the rows of all ranks, where they hold different tensors; else None.
        strangers: what has joined since then: the other ranks have no rows for it, so it stays out of the table until they
            have (`admit`).
    """

    def __init__(
        self, names: Mapping[int, str], groups: Sequence[Mapping[str, Any]], optimizer: int = 0
    ) -> None:
        self.params: list[Tensor] = []
        self.tensors: list[TensorInfo] = []
        self.group_of: list[int] = []
        self.layout: Layout | None = None
        self.strangers: list[Stranger] = []
        self._names = names
        self._optimizer = optimizer
        self._held: list[list[Tensor]] = []
        self._vacant: set[int] = set()
        self._lrs: list[Any] = []
        self._lr_is_tensor = False
        self._hyper: tuple[GroupHyper, ...] = ()
        self.extend(groups)

    def __len__(self) -> int:
        """Number of parameters."""
        return len(self.params)

    @property
    def last_group(self) -> int:
        """Index of the optimizer's last parameter group, also where that holds nothing."""
        return max(0, len(self._held) - 1)

    def grown(self, groups: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the groups hold other parameters than the table knows: new, gone or moved."""
        if len(groups) != len(self._held):
            return True
        for held, group in zip(self._held, groups, strict=True):
            params = group["params"]
            # By identity: == would compare values, and equal weights are not the same weights.
            if len(held) != len(params) or not all(map(operator.is_, held, params)):
                return True
        return False

    def extend(self, groups: Sequence[Mapping[str, Any]]) -> list[TensorInfo]:
        """Bring the table up to the groups; returns the entries of the rows appended, in model order."""
        if self._held and isinstance(self._names, ParameterNames):
            self._names = self._names.again()
        self._held = [list(group["params"]) for group in groups]
        self._hyper = ()
        entries = _entries(groups)
        self._vacate({id(entry[2]) for entry in entries})
        known = {id(param) for param in self.params}
        order = {key: position for position, key in enumerate(self._names)}
        fresh = [entry for entry in entries if id(entry[2]) not in known]
        fresh.sort(key=lambda entry: order.get(id(entry[2]), len(order)))
        added = self._seat(fresh)
        self.tensors.extend(added)
        group_of = {id(param): group for group, _, param in entries}
        before = [*self.group_of, *[0] * len(added)]
        elsewhere = self._elsewhere()
        self.group_of = [
            before[i] if i in elsewhere else group_of.get(id(param), 0) for i, param in enumerate(self.params)
        ]
        return added

    def lay_out(self, layout: Layout) -> None:
        """Take up the rows that all ranks have alike: before anybody has seen this table.

        Args:
            layout: made for the parameters that are here now.
        """
        own = dict(zip(layout.slots, self.params, strict=True))
        home = self.params[0].device if self.params else None
        self.params = [
            own[i] if i in own else torch.empty(0, device=home) for i in range(len(layout.tensors))
        ]
        self.tensors, self.group_of = list(layout.tensors), list(layout.group_of)
        self.layout = layout

    def admit(self, more: Layout) -> list[TensorInfo]:
        """Append rows that all ranks have agreed on; returns their entries.

        Args:
            more: of this rank's `strangers` and those of the others.
        """
        own = dict(zip(more.slots, [one.param for one in self.strangers], strict=True))
        home = self.params[0].device if self.params else None
        self.params.extend(
            own[i] if i in own else torch.empty(0, device=home) for i in range(len(more.tensors))
        )
        self.tensors.extend(more.tensors)
        self.group_of.extend(more.group_of)
        self.layout = more if self.layout is None else self.layout.followed_by(more)
        self.strangers = []
        return list(more.tensors)

    def absent_on_all(self, absent: BoolArray | None) -> BoolArray | None:
        """Of the rows without a gradient here those that are not another rank's."""
        return absent if self.layout is None else self.layout.absent_on_all(absent)

    def _elsewhere(self) -> set[int]:
        """Rows that only other ranks hold."""
        return set() if self.layout is None else set(np.flatnonzero(self.layout.elsewhere).tolist())

    def _vacate(self, staying: set[int]) -> None:
        elsewhere = self._elsewhere()
        for position, param in enumerate(self.params):
            if position in elsewhere:
                continue
            if id(param) not in staying and position not in self._vacant:
                self.params[position] = torch.empty(0, device=param.device)
                self._vacant.add(position)

    def _seat(self, fresh: Iterable[tuple[int, int, Tensor]]) -> list[TensorInfo]:
        vacant = {
            (self.tensors[i].name, self.tensors[i].shape): i for i in sorted(self._vacant, reverse=True)
        }
        seated: set[int] = set()
        added = []
        self.strangers = []
        for group, position, param in fresh:
            if id(param) in seated:
                continue
            seated.add(id(param))
            name = self._names.get(id(param), f"group{group}.param{position}")
            entry = _tensor_info(name, param, self._optimizer)
            row = vacant.pop((name, entry.shape), None)
            if row is None and self.layout is not None:
                self.strangers.append(Stranger(entry, param, group))
            elif row is None:
                added.append(entry)
                self.params.append(param)
            else:
                self.params[row] = param
                self._vacant.discard(row)
        return added

    def hyper(self, groups: Sequence[Mapping[str, Any]]) -> tuple[GroupHyper, ...]:
        """Learning rate, momentum and kind of each group, re-read only when a rate changed."""
        lrs = [(group.get("lr"), group.get("momentum")) for group in groups]
        # A rate kept as a tensor changes in place, so an equal object proves nothing.
        if self._lr_is_tensor or lrs != self._lrs or not self._hyper:
            self._lrs = lrs
            self._lr_is_tensor = any(isinstance(lr, Tensor) for lr, _ in lrs)
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
