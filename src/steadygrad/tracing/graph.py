"""Where a loss became non-finite, read off its autograd graph: for a step that nobody had listened to.

A script's model is found when its first gradients are used, so its first forward pass can't be replayed.
But until the backward pass has run, the graph still holds what its operations were given. In forward order,
the first number among those that isn't finite tells who made it, or whether it came with the data.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from steadygrad.calling import node_behind, nodes_behind
from steadygrad.catalog.operations import snake_case
from steadygrad.measure import parameter_names
from steadygrad.origin import BESIDE, DATA, LOSS_FACTOR, Origin
from steadygrad.tracing.events import MIXING
from steadygrad.tracing.finiteness import (
    broken_rows,
    facts,
    has_nan,
    has_numbers,
    is_finite,
    only_minus_infinity,
)

_MOST_NODES = 20_000
_LEAF = "AccumulateGrad"
_SAVED, SAVED_RESULT = "_saved_", "_saved_result"
_SUMMING = ("SumBackward", "MeanBackward", "NegBackward")
# Nothing keeps what these return, and sums and signs behind them keep nothing either: they are computed again.
_AGAIN: Mapping[str, Callable[..., Tensor]] = {
    "log": torch.log,
    "log2": torch.log2,
    "log10": torch.log10,
    "log1p": torch.log1p,
    "acos": torch.acos,
    "asin": torch.asin,
    "atanh": torch.atanh,
}
# These keep nothing of what they are given; data beside the graph that enters them shows only in what they return.
_SCALING = ("MulBackward", "DivBackward")
_JOINING = ("AddBackward", "SubBackward", "RsubBackward", "CatBackward", "StackBackward")
# These only hand on, or leave out, numbers that they are given: whoever gave them a broken one has made it.
_HANDING_ON = frozenset(
    [
        "alias",
        "as_strided",
        "clone",
        "expand",
        "flip",
        "gather",
        "index",
        "permute",
        "relu",
        "repeat",
        "select",
        "slice",
        "split",
        "squeeze",
        "t",
        "to_copy",
        "transpose",
        "unbind",
        "unsafe_view",
        "unsqueeze",
        "view",
    ]
)


class Broken(NamedTuple):
    """A loss that isn't finite.

    Attributes:
        origin: where that began.
        ids: of the parameters in its graph.
        met: the first number that the graph has met which isn't finite; None for a slope.
    """

    origin: Origin
    ids: frozenset[int]
    met: Tensor | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """The first non-finite number in forward order.

    Attributes:
        tensor: it.
        node: the operation that made it, or that it enters where no operation has.
        made: an operation made it.
    """

    tensor: Tensor
    node: Any
    made: bool


def broken_loss(loss: Tensor, model_of: Callable[[Sequence[Tensor]], nn.Module]) -> Broken | None:
    """Find out where a loss became non-finite; its graph must still be there.

    Reads one number from the device, and all that the graph has kept where that one isn't finite.

    Args:
        loss: 0-d, what a backward pass is about to start from.
        model_of: the module that holds some parameters.

    Returns:
        The place; None for a finite loss, or where the graph doesn't tell.

    Example:
        >>> import torch
        >>> net = nn.Linear(2, 1)
        >>> with torch.no_grad():
        ...     _ = net.weight.fill_(0.0), net.bias.fill_(0.0)
        >>> print(broken_loss(net(torch.ones(3, 2)).log().mean(), lambda _: net).origin)
        Inf first made by aten.log in code after the model's last layer (loss)
          input 0: float32[3, 1] 0 to 0
    """
    # Asked before every backward pass: as a plain number it is one call instead of three.
    finite = math.isfinite(loss.item()) if type(loss) is Tensor else is_finite(loss)
    if loss.grad_fn is None or finite:
        return None
    nodes = nodes_of(loss)
    params = [node.variable for node in nodes if is_leaf(node)]
    if not params:
        return None
    model = model_of(params)
    # What a checkpoint has thrown away is computed again when it is asked for, statistics and all.
    with _still(list(model.buffers())):
        seen = _first(nodes, loss)
        return Broken(_origin(seen, nodes, model), frozenset(map(id, params)), seen.tensor)


@contextlib.contextmanager
def _still(buffers: Sequence[Tensor]) -> Iterator[None]:
    """Buffers keep their values, and for the backward pass to come nothing has touched them."""
    before = [one.detach().clone() for one in buffers]
    with torch.autograd._unsafe_preserve_version_counter(tuple(buffers)):  # type: ignore[attr-defined]
        yield
        with torch.no_grad():
            for one, value in zip(buffers, before, strict=True):
                one.copy_(value)


def nodes_of(loss: Tensor) -> list[Any]:
    """Every node of the graph, in forward order, leaves last."""
    return sorted(nodes_behind([loss], _MOST_NODES), key=lambda node: node._sequence_nr())


def is_leaf(node: Any) -> bool:
    """Whether a node is where the gradient of a parameter ends up."""
    return str(node.name()).endswith(_LEAF) and isinstance(node.variable, Tensor)


def _first(nodes: Sequence[Any], loss: Tensor) -> _Seen:
    for node in nodes:
        if is_leaf(node) and is_broken(node.variable):
            return _Seen(node.variable, node, made=False)
    for node in nodes:
        made = _made_again(node)
        if made is not None and not is_finite(made):
            return _Seen(made, node, made=True)
        kept = sorted(saved_by(node), key=lambda pair: pair[0].startswith(SAVED_RESULT))
        for name, tensor in kept:
            if not (
                is_broken(tensor)
                or (name_of(node) in MIXING and has_numbers(tensor) and not is_finite(tensor))
            ):
                continue
            if name.startswith(SAVED_RESULT):
                return _Seen(tensor, _maker(node), made=True)
            maker = node_behind(tensor.grad_fn)
            return _Seen(tensor, node if maker is None else _maker(maker), made=maker is not None)
    dividing = next(filter(_divides_by_zero, nodes), None)
    return _Seen(loss, _behind_sums(loss.grad_fn) if dividing is None else dividing, made=True)


def _maker(node: Any) -> Any:
    """The operation that made what this one has returned."""
    while name_of(node) in _HANDING_ON:
        behind = node_behind(node.next_functions[0][0]) if node.next_functions else None
        if behind is None or is_leaf(behind):
            return node
        node = behind
    return node


def _divides_by_zero(node: Any) -> bool:
    """Whether an operation that keeps only what it divides by has divided by 0, of which nothing finite comes."""
    return name_of(node) == "div" and any(
        name == "_saved_other" and bool((tensor == 0).any()) for name, tensor in saved_by(node)
    )


def _behind_sums(node: Any) -> Any:
    """The operation that gave a sum or a mean what it has added up."""
    while (behind := node_behind(node)).name().startswith(_SUMMING):
        if getattr(behind, "_saved_self_sym_numel", 1) == 0 or behind.next_functions[0][0] is None:
            return behind
        node = behind.next_functions[0][0]
    return behind


def _made_again(node: Any) -> Tensor | None:
    """What an operation that can make an Inf of finite numbers has returned; None for any other."""
    operation = _AGAIN.get(name_of(node))
    given = next((one for _, one in saved_by(node)), None) if operation is not None else None
    if operation is None or given is None or not is_finite(given):
        return None
    with torch.no_grad():
        return operation(given)


def saved_by(node: Any) -> Iterator[tuple[str, Tensor]]:
    """What a node has saved for its backward pass, by the name it goes by there."""
    for name in dir(node):
        if not name.startswith(_SAVED):
            continue
        try:
            value = getattr(node, name)
        except RuntimeError:  # it was changed in place since, or is let go of
            continue
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(one, Tensor):
                yield name, one


def is_broken(tensor: Tensor) -> bool:
    """An Inf or a NaN that is no mask, which leaves something open."""
    if not has_numbers(tensor) or is_finite(tensor):
        return False
    return not (only_minus_infinity(tensor) and bool(torch.isfinite(tensor).any()))


def _origin(seen: _Seen, nodes: Sequence[Any], model: nn.Module) -> Origin:
    layers = layers_of(nodes, parameter_names(model))
    kind: Literal["nan", "inf"] = "nan" if has_nan(seen.tensor) else "inf"
    if not seen.made and is_leaf(seen.node):
        return Origin("optimizer", kind, "parameter", None)
    number = seen.node._sequence_nr()
    inside = any(number <= layer for layer, _ in layers)
    if not seen.made and not inside and seen.node.name().startswith(_SCALING):
        # What the output is compared with comes with the data; what it is multiplied by, the script has computed.
        return Origin("loss", kind, LOSS_FACTOR, None, inputs=facts([seen.tensor]))
    if not seen.made or _data_joins(seen.node):
        if not inside:  # targets, or what the loss has made of them; its rows needn't be the batch's any more
            note = f"It is what enters {_operation(seen.node)}."
            return Origin("loss", kind, BESIDE, None, inputs=facts([seen.tensor]), note=note)
        rows = broken_rows(seen.tensor, len(seen.tensor) if seen.tensor.dim() else None)
        note = f"it is what enters {_operation(seen.node)}" if seen.made else ""
        return Origin("input", kind, DATA, None, inputs=facts([seen.tensor]), rows=rows, note=note)
    module = module_around(number, layers) if inside else None
    return Origin(
        "forward" if inside else "loss",
        kind,
        _operation(seen.node),
        module,
        module_type="" if module is None else type(model.get_submodule(module)).__name__,
        inputs=facts(one for name, one in saved_by(seen.node) if not name.startswith(SAVED_RESULT)),
    )


def _operation(node: Any) -> str:
    return f"aten.{name_of(node)}"


def name_of(node: Any) -> str:
    """The operation of a node: ``log`` of ``LogBackward0``."""
    return snake_case(node.name().partition("Backward")[0])


def layers_of(nodes: Sequence[Any], names: Mapping[int, str]) -> list[tuple[int, str]]:
    """The operations that take a parameter, in forward order: their number, and the module that holds it."""
    return [
        (node._sequence_nr(), names.get(id(behind.variable), "").rpartition(".")[0])
        for node in nodes
        if not is_leaf(node)
        for following, _ in node.next_functions
        if (behind := node_behind(following)) is not None and is_leaf(behind)
    ]


def module_around(number: int, layers: Sequence[tuple[int, str]]) -> str:
    """The innermost module that an operation is known to be in: its own layer's, or what its neighbours share."""
    own = [name for at, name in layers if at == number]
    if own:
        return own[0]
    neighbours = [name for at, name in layers if at < number][-1:] + [
        name for at, name in layers if at > number
    ][:1]
    shared: list[str] = []
    for parts in zip(*(name.split(".")[:-1] for name in neighbours), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _data_joins(node: Any) -> bool:
    """Whether a tensor from outside the graph enters an operation that can't make a NaN of finite numbers."""
    return node.name().startswith(_JOINING) and any(following is None for following, _ in node.next_functions)
