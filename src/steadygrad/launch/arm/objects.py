"""What lives in this process: modules, optimizers, the tensors behind a loss, names of variables.

Found by the garbage collector, once for each training: nothing has to be hooked into every module's
call or every constructor, and what was made before torch's import returned is found as well.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.calling import nodes_behind
from steadygrad.preserve import leaves_of
from steadygrad.tracing import is_broken
from steadygrad.tracing.finiteness import has_nan

T = TypeVar("T")
# A graph of unrolled time steps may be large; beyond this it isn't worth the time.
_MOST_NODES = 1_000_000
# From a loss down to some parameter.
_NEAR, _FAR = 256, 20_000
# A longer list is data.
_MOST_ITEMS = 64


def living(kind: type[T]) -> list[T]:
    """All objects of a class, in the order of the garbage collector.

    The type is asked, not ``__class__``: proxies answer that with somebody else's, or by importing.
    """
    return [one for one in gc.get_objects() if issubclass(type(one), kind)]


def held_by(optimizer: Optimizer) -> list[Tensor]:
    """The parameters of an optimizer; none where it isn't set up yet."""
    groups = getattr(optimizer, "param_groups", ())
    return [param for group in groups for param in group["params"] if isinstance(param, Tensor)]


def optimizers_of(ids: set[int]) -> list[Optimizer]:
    """The optimizers that hold any of these parameters, given by ``id``.

    A stand-in that never became an optimizer itself (Accelerate's) has no hooks, and hands its steps on.
    """
    found = [one for one in living(Optimizer) if "_optimizer_step_pre_hooks" in vars(one)]
    return [one for one in found if any(id(param) in ids for param in held_by(one))]


def leaves_behind(roots: object) -> list[Tensor]:
    """The tensors that a backward pass from ``roots`` has given a gradient, in order of discovery."""
    tensors = roots if isinstance(roots, (list, tuple)) else [roots]
    leaves = leaves_of([one for one in tensors if isinstance(one, Tensor)], _MOST_NODES)
    return [leaf for leaf in leaves if leaf.grad is not None]


def parameters_behind(roots: object) -> set[int]:
    """What a backward pass from ``roots`` will give a gradient, by ``id``."""
    tensors = [
        one for one in (roots if isinstance(roots, (list, tuple)) else [roots]) if isinstance(one, Tensor)
    ]
    return {id(leaf) for leaf in _leaves(tensors, _FAR)}


def parameter_behind(loss: Tensor) -> nn.Parameter | None:
    """A parameter that a loss depends on: the first that is come upon, without a look at the whole graph."""
    return next((leaf for leaf in _leaves([loss], _NEAR) if isinstance(leaf, nn.Parameter)), None)


def _leaves(tensors: Sequence[Tensor], most: int) -> Iterator[Tensor]:
    """What graphs end in, as far as so many nodes reach."""
    for node in nodes_behind(tensors, most):
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            yield leaf


def variable_names(wanted: Iterable[object]) -> dict[int, str]:
    """Name of the variable that holds each object, by ``id``: of functions under way, then of ``__main__``."""
    ids = {id(one) for one in wanted}
    found: dict[int, str] = {}
    for names in _namespaces():
        for name, value in list(names.items()):
            if name.startswith("__"):
                continue
            for label, one in _with_items(name, value):
                if id(one) in ids:
                    found.setdefault(id(one), label)
    return found


def broken_variable(met: Tensor) -> tuple[str, Tensor] | None:
    """The variable, of functions under way or of ``__main__``, that has brought a NaN or an Inf into a loss, and what it holds.

    A script may hold others beside it, such as a curve that is NaN where it is still to be filled. So it must be the very
    numbers that the loss has met, or be broken at the same places: then they were computed of it.

    What has been computed with a gradient is no data; what has no rows (a running loss) isn't either, nor what is
    infinite throughout (a smallest distance to begin with).

    Args:
        met: what isn't finite in the loss.
    """
    if type(met) is not Tensor:
        return None
    nan, places = has_nan(met), None
    alike: tuple[str, Tensor] | None = None
    for names in _namespaces():
        for name, value in list(names.items()):
            for label, one in _with_items(name, value):
                if type(one) is not Tensor or not _is_broken_data(one, nan=nan):
                    continue
                if _overlap(one, met):
                    return label, one
                places = _broken_places(met) if places is None else places
                # What is broken throughout is so at no places of its own.
                if alike is None and not bool(places.all()) and torch.equal(_broken_places(one), places):
                    alike = label, one
    return alike


def _is_broken_data(tensor: Tensor, *, nan: bool) -> bool:
    if not tensor.dim() or tensor.requires_grad or not is_broken(tensor):
        return False
    if nan:
        return bool(torch.isnan(tensor).any())
    return bool(torch.isinf(tensor).any() and torch.isfinite(tensor).any())


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors share memory, as a batch that is a slice does with its data."""
    if one.device != other.device:
        return False
    (begin, end), (other_begin, other_end) = _memory(one), _memory(other)
    return begin < other_end and other_begin < end


def _memory(tensor: Tensor) -> tuple[int, int]:
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def _broken_places(tensor: Tensor) -> Tensor:
    """Where it isn't finite, whatever dimensions of one it has."""
    return ~torch.isfinite(tensor.detach()).squeeze().cpu()


def _namespaces() -> Iterator[Mapping[str, Any]]:
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - who else could know?
    while frame is not None:
        # Functions of torch and ours call their arguments "self", "params" and "tensors".
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] not in {"torch", "steadygrad"}:
            yield frame.f_locals
        frame = frame.f_back
    yield vars(sys.modules["__main__"])


def _with_items(name: str, value: object) -> Iterator[tuple[str, object]]:
    """The variable itself, and what a short list or dict, or a trainer's own object in it, holds."""
    yield name, value
    if isinstance(value, (type, ModuleType, nn.Module, Tensor)):
        return
    if type(value) in {list, tuple} and len(value) <= _MOST_ITEMS:  # type: ignore[arg-type]
        yield from ((f"{name}[{i}]", one) for i, one in enumerate(value))  # type: ignore[arg-type, var-annotated]
    elif type(value) is dict and len(value) <= _MOST_ITEMS:
        yield from ((f"{name}[{key!r}]", one) for key, one in value.items())
    elif type(held := getattr(value, "__dict__", None)) is dict:
        for own, one in list(held.items()):
            yield own, one
            if type(one) in {list, tuple} and len(one) <= _MOST_ITEMS:
                yield from ((f"{own}[{i}]", item) for i, item in enumerate(one))
