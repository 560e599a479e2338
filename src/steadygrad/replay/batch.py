"""What the model was given in the step, and what came back to its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from steadygrad.calling import tensors_in
from steadygrad.recover.plain_values import lacks, rebuilt
from steadygrad.replay.case import Case


@dataclass(frozen=True, slots=True)
class Call:
    """One forward call of the step.

    Attributes:
        module: which part of the model was called; "" for all of it.
        args: positional arguments.
        kwargs: keyword arguments.
        random: states of torch's generators before it; None leaves them as they are.
        autocast: devices under autocast, and the dtype.
        gradients: what came back to its outputs, by position among those that require a gradient.
    """

    module: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    random: list[Tensor] | None = None
    autocast: tuple[tuple[str, torch.dtype], ...] = ()
    gradients: Mapping[int, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """All calls of the step.

    Attributes:
        calls: oldest first.
        given: what the loss function takes besides the output, one for all calls.
        recorded: whether this is the bundle's batch and not the factory's.
    """

    calls: tuple[Call, ...]
    given: Any
    recorded: bool

    def without(self, rows: tuple[int, ...]) -> Batch:
        """Without some rows of each call.

        Raises:
            ValueError: then there is nothing left.
        """
        size = self.size()
        keep = torch.tensor([row for row in range(size) if row not in rows])
        if not len(keep):
            raise ValueError("every row carries the fault")

        def cut(tensor: Tensor) -> Tensor:
            fits = tensor.dim() > 0 and tensor.shape[0] == size
            return tensor.index_select(0, keep.to(tensor.device)) if fits else tensor

        return self._mapped(cut)

    def cast(self, dtype: torch.dtype) -> Batch:
        """With floating-point numbers of this dtype, and without autocast."""
        mapped = self._mapped(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)
        return replace(mapped, calls=tuple(replace(call, autocast=()) for call in mapped.calls))

    def size(self) -> int:
        """Rows of the batch; 0 where it can't be told."""
        found = [one for one in tensors_in([(call.args, call.kwargs) for call in self.calls]) if one.dim()]
        return int(found[0].shape[0]) if found else 0

    def nonfinite_rows(self) -> tuple[int, ...]:
        """Rows of the inputs that hold a NaN or an Inf."""
        size = self.size()
        bad: set[int] = set()
        for tensor in tensors_in([(call.args, call.kwargs) for call in self.calls] + [self.given]):
            if tensor.is_floating_point() and tensor.dim() and tensor.shape[0] == size and size:
                rows = ~torch.isfinite(tensor).reshape(size, -1).all(dim=1)
                bad |= set(torch.nonzero(rows).flatten().tolist())
        return tuple(sorted(bad))

    def _mapped(self, change: Any) -> Batch:
        calls = tuple(
            replace(
                call,
                args=tree_map_only(Tensor, change, call.args),
                kwargs=tree_map_only(Tensor, change, call.kwargs),
                gradients=None if call.gradients is None else tree_map_only(Tensor, change, call.gradients),
            )
            for call in self.calls
        )
        return Batch(calls, tree_map_only(Tensor, change, self.given), self.recorded)


def batch_of(case: Case, own: object, device: torch.device) -> Batch:
    """The batch of the bundle; where that has none, the factory's.

    Args:
        case: the bundle.
        own: the factory's batch: it tells in which shape the loss function expects one.
        device: where the model is.
    """
    saved = case.step["calls"]
    if not saved or lacks(saved):
        return Batch((_factorys(own),), own, recorded=False)
    calls = tuple(_call(one, device) for one in saved)
    given = case.step["given"]
    return Batch(calls, _shaped(calls[-1], own) if given is None else rebuilt(given, device), recorded=True)


def _call(saved: Mapping[str, Any], device: torch.device) -> Call:
    return Call(
        saved["module"],
        tuple(rebuilt(saved["args"], device)),
        rebuilt(saved["kwargs"], device),
        saved["random"],
        tuple((name, dtype) for name, dtype in saved["autocast"]),
        {int(position): one.to(device) for position, one in saved["gradients"].items()},
    )


def _factorys(own: object) -> Call:
    if isinstance(own, Mapping):
        return Call("", (), own)
    return Call("", tuple(own) if isinstance(own, (tuple, list)) else (own,), {})


def _shaped(call: Call, own: object) -> Any:
    """The arguments in the shape in which the factory gives a batch."""
    if isinstance(own, Mapping) or not call.args:
        return dict(call.kwargs)
    if isinstance(own, list):
        return list(call.args)
    return call.args if isinstance(own, tuple) or len(call.args) > 1 else call.args[0]
