"""Recurrences written by hand around a bare `nn.Parameter`: no module is called at each step, but the graph knows.

A matrix that many operations use, each fed by the one before, is a recurrent weight. The gradient that enters
each of these operations is that of the state at its step.

Shape legend: T time steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from steadygrad.calling import is_shaper
from steadygrad.gains.norms import norm_of
from steadygrad.gains.recurrence import reaches
from steadygrad.gains.time_gain import TimeGain

LEAST_USES = 3
"""Operations in a row that make a sequence."""

MOST_NODES = 200_000
"""Autograd nodes looked at; a longer graph is left alone."""


@dataclass(slots=True)
class Bare:
    """One recurrent weight.

    Attributes:
        owner: qualified name of the module that holds it.
        name: its own qualified name.
        gated: whether a sigmoid and a product lie between two uses.
        norms: gradient norm at each use, in forward order; filled by the backward pass.
    """

    owner: str
    name: str
    gated: bool
    norms: list[float] = field(default_factory=list)

    @property
    def gain(self) -> TimeGain:
        """What was seen."""
        return TimeGain(self.name, tuple(self.norms), gated=self.gated)


def listen(model: nn.Module, loss: Tensor) -> list[Bare]:
    """Find recurrent weights in the graph of a loss, and hook onto the operations that use them.

    Args:
        model: its own classes' matrices are looked for.
        loss: before its backward pass; the hooks go with its graph.
    """
    wanted = {id(param): names for names, param in _candidates(model)}
    if not wanted or loss.grad_fn is None:
        return []
    found = []
    for key, nodes in _uses(loss.grad_fn, set(wanted)).items():
        nodes.sort(key=lambda node: node._sequence_nr())  # noqa: SLF001 - the order of the forward pass
        chained, between = _chained(nodes)
        if chained:
            one = Bare(*wanted[key], gated={"SigmoidBackward0", "MulBackward0"} <= between)
            _hook(one, nodes)
            found.append(one)
    return found


def steepest(found: list[Bare]) -> Iterator[TimeGain]:
    """Of each module the weight along which the gradient changes most: gates share one recurrence."""
    by_owner: dict[str, list[TimeGain]] = {}
    for one in found:
        if any(norm > 0 for norm in one.norms):
            by_owner.setdefault(one.owner, []).append(one.gain)
    for gains in by_owner.values():
        yield max(gains, key=lambda one: abs(math.log(one.per_step)))


def _candidates(model: nn.Module) -> Iterator[tuple[tuple[str, str], nn.Parameter]]:
    for owner, module in model.named_modules():
        if type(module).__module__.startswith("torch."):
            continue
        for name, param in module.named_parameters(recurse=False):
            if param.dim() == 2 and param.shape[0] > 1:
                yield (owner, f"{owner}.{name}".lstrip(".")), param


def _uses(start: Any, wanted: set[int]) -> dict[int, list[Any]]:
    """The operations that use each wanted parameter, as such or in another shape."""
    above: dict[Any, list[Any]] = {}
    leaves: dict[Any, int] = {}
    ahead, seen = [start], {start}
    while ahead and len(seen) < MOST_NODES:
        node = ahead.pop()
        for child, _ in node.next_functions:
            if child is None:
                continue
            above.setdefault(child, []).append(node)
            if child in seen:
                continue
            seen.add(child)
            ahead.append(child)
            variable = getattr(child, "variable", None)
            if variable is not None and id(variable) in wanted:
                leaves[child] = id(variable)
    if ahead:
        return {}
    return {key: list(_users(leaf, above)) for leaf, key in leaves.items()}


def _users(node: Any, above: dict[Any, list[Any]]) -> Iterator[Any]:
    for user in dict.fromkeys(above.get(node, ())):
        if is_shaper(user):
            yield from _users(user, above)
        else:
            yield user


def _chained(nodes: list[Any]) -> tuple[bool, set[str]]:
    """Whether each of the first uses feeds the next, and the names of what lies between."""
    if len(nodes) < LEAST_USES:
        return False, set()
    between: set[str] = set()
    for earlier, later in pairwise(nodes[:LEAST_USES]):
        fed, names = reaches([child for child, _ in later.next_functions], {earlier})
        if not fed:
            return False, set()
        between |= names
    return True, between


def _hook(one: Bare, nodes: list[Any]) -> None:
    one.norms[:] = [0.0] * len(nodes)

    def listener(place: int) -> Any:
        def keep(grads: tuple[Tensor | None, ...]) -> None:
            if grads and grads[0] is not None:
                one.norms[place] = norm_of(grads[0])[0]

        return keep

    for place, node in enumerate(nodes):
        node.register_prehook(listener(place))
