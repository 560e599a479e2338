"""A finite loss whose gradient isn't: an operation that stands where its slope is infinite, as a root at 0 does.

What comes before it in the graph may leave that gradient out (a ReLU does), and then it does no harm. And a gradient may
have been broken before it came to the operation. So each suspect is listened to in the one backward pass that follows.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.measure import parameter_names
from steadygrad.origin import Origin
from steadygrad.tracing.finiteness import facts, is_finite
from steadygrad.tracing.graph import (
    SAVED_RESULT,
    Broken,
    is_leaf,
    layers_of,
    module_around,
    name_of,
    nodes_of,
    saved_by,
)

# Where these have an infinite slope: the gradient behind them is an Inf or a NaN. Powers have one too.
_STEEP: Mapping[str, tuple[str, float]] = {
    "sqrt": ("_saved_result", 0.0),
    "log": ("_saved_self", 0.0),
    "log2": ("_saved_self", 0.0),
    "log10": ("_saved_self", 0.0),
    "log1p": ("_saved_self", -1.0),
    "div": ("_saved_other", 0.0),
}
# Of many, those that the backward pass comes to first.
_MOST_SUSPECTS = 8


@dataclass(frozen=True, slots=True)
class _Suspect:
    """An operation whose slope is infinite where it stands.

    Attributes:
        origin: what there is to say if it is to blame.
        behind: the parameters whose gradients come through it.
        heard: whether it was given a finite gradient and made one of it that isn't, 0-d; empty before that pass.
    """

    origin: Origin
    behind: tuple[weakref.ref[Tensor], ...]
    heard: list[Tensor] = field(default_factory=list)

    def listen(self, made: Sequence[Tensor | None], given: Sequence[Tensor | None]) -> None:
        """A hook on its node: called with what the operation hands back, and with what it was given."""
        # A fault of ours must not end a backward pass.
        with contextlib.suppress(Exception), torch.no_grad():
            if not self.heard:
                self.heard.append(_all_finite(given) & ~_all_finite(made))

    def is_to_blame(self) -> bool:
        """Whether it has made a gradient non-finite, and nothing behind it has come out finite."""
        if not self.heard or not bool(self.heard[0]):
            return False
        grads = [param.grad for ref in self.behind if (param := ref()) is not None]
        there = [grad for grad in grads if grad is not None]
        return bool(there) and not any(map(is_finite, there))


class Steep:
    """The operations of one loss that may make its gradient non-finite.

    Args:
        suspects: in the order in which the backward pass comes to them.
        ids: of the parameters in its graph.
    """

    def __init__(self, suspects: Sequence[_Suspect], ids: frozenset[int]) -> None:
        self._suspects = suspects
        self._ids = ids

    def broken(self) -> Broken | None:
        """After the backward pass, before a clip spreads a NaN: which of them is to blame; None where none surely is."""
        found = next((one for one in self._suspects if one.is_to_blame()), None)
        return None if found is None else Broken(found.origin, self._ids)


def steep_loss(loss: Tensor, model_of: Callable[[Sequence[Tensor]], nn.Module]) -> Steep | None:
    """Listen to the operations of a finite loss that stand where their slope is infinite.

    Args:
        loss: 0-d, what a backward pass is about to start from.
        model_of: the module that holds some parameters.

    Returns:
        What to ask after that pass; None where there is no such operation.

    Example:
        >>> import torch
        >>> w = nn.Parameter(torch.zeros(2))
        >>> net = nn.ParameterDict({"w": w})
        >>> loss = w.square().sum().sqrt()
        >>> steep = steep_loss(loss, lambda _: net)
        >>> loss.backward()
        >>> print(steep.broken().origin.operation)
        SqrtBackward0
    """
    nodes = nodes_of(loss)
    found = [node for node in reversed(nodes) if _is_steep(node)][:_MOST_SUSPECTS]
    params = [node.variable for node in nodes if is_leaf(node)]
    if not found or not params:
        return None
    model = model_of(params)
    layers = layers_of(nodes, parameter_names(model))
    suspects = []
    for node in found:
        behind = _params_behind(node)
        grad = next((one.grad for one in behind if one.grad is not None), None)
        # Left broken by another pass: what this one adds can't be told.
        if grad is not None and not is_finite(grad):
            continue
        suspects.append(_Suspect(_origin(node, layers, model), tuple(map(weakref.ref, behind))))
        node.register_hook(suspects[-1].listen)
    return Steep(suspects, frozenset(map(id, params)))


def _is_steep(node: Any) -> bool:
    """Whether the operation stands where its slope is infinite."""
    name = name_of(node)
    if name == "pow":
        exponent = getattr(node, "_saved_exponent", None)
        at = ("_saved_self", 0.0) if isinstance(exponent, float) and 0.0 < exponent < 1.0 else None
    else:
        at = _STEEP.get(name)
    if at is None:
        return False
    kept = next((tensor for saved, tensor in saved_by(node) if saved == at[0]), None)
    return kept is not None and bool((kept.detach() == at[1]).any())


def _origin(node: Any, layers: Sequence[tuple[int, str]], model: nn.Module) -> Origin:
    number = node._sequence_nr()
    module = module_around(number, layers) if any(number <= layer for layer, _ in layers) else None
    return Origin(
        "backward",
        "inf",
        str(node.name()),
        module,
        module_type="" if module is None else type(model.get_submodule(module)).__name__,
        inputs=facts(one for name, one in saved_by(node) if not name.startswith(SAVED_RESULT)),
    )


def _params_behind(node: Any) -> list[Tensor]:
    waiting, seen = [node], {node}
    while waiting:
        following = {one for one, _ in waiting.pop().next_functions if one is not None} - seen
        seen |= following
        waiting.extend(following)
    return [one.variable for one in seen if is_leaf(one)]


def _all_finite(grads: Sequence[Tensor | None]) -> Tensor:
    flags = [torch.isfinite(one).all() for one in grads if one is not None]
    return torch.stack(flags).all() if flags else torch.tensor(True)
