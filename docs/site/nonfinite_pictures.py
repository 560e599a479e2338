"""Pictures of numbers that aren't finite: the batch of the step once more, looked at after every operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from forms import picture, stations
from reruns import reproduction
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from steadygrad.calling import nodes_behind

Station = tuple[str, int, int]


def _square(output: Tensor, _: Mapping[str, Any]) -> Tensor:
    return output.square().mean()


def _mean(output: Tensor, _: Mapping[str, Any]) -> Tensor:
    return output.mean()


def _entropy(output: Tensor, left: Mapping[str, Any]) -> Tensor:
    return nn.functional.cross_entropy(output, left["labels"])


def _share(output: Tensor, left: Mapping[str, Any]) -> Tensor:
    return (output[:, 0].sigmoid() * left["positive"]).sum() / left["positive"].sum()


# The step that brings it is made the last, so that its batch is what the script leaves behind.
SEVENTH = {"range(10)": "range(7)"}
LAST = {
    "nonfinite_input": (SEVENTH, ("images",), _entropy),
    "nonfinite_activation": (SEVENTH, ("counts",), _square),
    "nonfinite_loss": (SEVENTH, ("x",), _share),
    "nonfinite_gradient": (SEVENTH, ("a", "b"), _mean),
    "nonfinite_parameter": ({"range(40)": "range(21)"}, ("x",), _square),
}


def way(kind: str) -> None:
    """The stations of one step, and what isn't finite there."""
    instead, names, loss_of = LAST[kind]
    left = reproduction(kind, instead=instead)
    seen = walk(left["model"], {name: left[name] for name in names}, lambda output: loss_of(output, left))
    first = next(name for name, bad, _ in seen if bad)
    told = "; ".join(f"{name}: {f'{bad:,} of {size:,}' if bad else 'none'}" for name, bad, size in seen)
    alt = f"How many numbers aren't finite at each station of the step, from the batch to the gradients: {told}. It begins at {first}."
    with picture(kind, alt, height=0.9 + 0.24 * len(seen)) as axes:
        stations(axes, seen)


def walk(model: nn.Module, batch: Mapping[str, Tensor], loss_of: Callable[[Tensor], Tensor]) -> list[Station]:
    """How much isn't finite in the batch, the weights, after each operation forward and back, and in the gradients."""
    model.zero_grad()
    seen = [_count(f"batch: {name}", x) for name, x in batch.items()]
    weights = [_count(f"weight: {name}", weight) for name, weight in model.named_parameters()]
    seen += [one for one in weights if one[1]]
    with _Forward() as forward:
        loss = loss_of(model(*batch.values()))
    seen += forward.seen
    for node in nodes_behind([loss]):
        if "Accumulate" not in node.name():
            node.register_hook(partial(_backward, seen, node.name()))
    loss.backward()
    return seen + [_count(f"gradient: {name}", _gradient(one)) for name, one in model.named_parameters()]


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _count(name: str, x: Tensor) -> Station:
    return name, int((~torch.isfinite(x)).sum()), x.numel()


class _Forward(TorchDispatchMode):
    """Looks at what every operation returns that computes something."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Station] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation, and a look at what it made."""
        made = func(*args, **(kwargs or {}))
        first = made[0] if isinstance(made, tuple) else made
        if not func.is_view and isinstance(first, Tensor) and first.is_floating_point():
            self.seen.append(_count(f"forward: {func.overloadpacket.__name__}", first))
        return made


def _backward(seen: list[Station], name: str, made: tuple[Tensor | None, ...], _: Any) -> None:
    given = [one for one in made if one is not None]
    if given and not name.startswith(("T", "Unsqueeze", "Squeeze", "Select", "View", "Reshape")):
        worst = max(given, key=lambda one: int((~torch.isfinite(one)).sum()))
        seen.append(_count(f"backward: {name}", worst))


PICTURES = {kind: partial(way, kind) for kind in LAST}
