"""How a user's model, batch and loss function fit together: one rule for every call that takes them.

``batch`` is what the model takes: a tensor, a tuple or list (positional), a dict (keywords).
``loss_fn`` is called as ``loss_fn(output)``, or as ``loss_fn(output, batch)`` where it takes two; None
is for a model that returns its loss.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from steadygrad.errors import UsageError

LossFn = Callable[..., Any]

# How torch says so; the convolutions name types of tensors instead of devices.
_OF_DEVICES = re.compile(
    r"same device|expected device|of device type|Input type \(.*weight type \(|allocated on MPS device|on meta tensors"
)

# Autograd nodes that only give the same numbers another shape.
_SHAPERS = (
    "Squeeze",
    "View",
    "Unsqueeze",
    "Alias",
    "Reshape",
    "Permute",
    "Transpose",
    "ToCopy",
    "Clone",
    "TBack",
)


def call_model(model: nn.Module, batch: object) -> Any:
    """The model's output for a batch.

    Args:
        model: called once.
        batch: a tensor, a tuple or list of positional arguments, a dict of keywords; anything else is
            handed over as the only argument.
    """
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, (tuple, list)) and not isinstance(batch, PackedSequence):
        return model(*batch)
    return model(batch)


def loss_of(output: Any, batch: object, loss_fn: LossFn | None) -> Tensor:
    """The scalar loss of a model's output.

    Args:
        output: what the model returned.
        batch: what it was given.
        loss_fn: see above.

    Raises:
        UsageError: what came out is not one floating-point number in a tensor.
    """
    if loss_fn is None:
        return _scalar(_own_loss(output), "the model", "Give a loss_fn(output), or have the model return it.")
    found = loss_fn(output, batch) if _takes_two(loss_fn) else loss_fn(output)
    return _scalar(found, "loss_fn", "Reduce it to one number, for example with .mean().")


def tensors_in(value: object) -> list[Tensor]:
    """Every tensor in nested tuples, lists, dicts and dataclasses, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for entry in value.values() for tensor in tensors_in(entry)]
    if isinstance(value, (tuple, list)):
        return [tensor for entry in value for tensor in tensors_in(entry)]
    if is_dataclass(value) and not isinstance(value, type):
        return [tensor for field in fields(value) for tensor in tensors_in(getattr(value, field.name))]
    return []


def device_hint(model: nn.Module, batch: object, fault: BaseException) -> str:
    """A sentence where a call failed because batch and model lie on different devices; "" where it failed otherwise.

    Args:
        model: what was called.
        batch: what it was given. A part of it may lie elsewhere and be meant to, as the lengths of packed sequences do.
        fault: what was raised; only where torch speaks of devices in it is that the reason.
    """
    if not _OF_DEVICES.search(str(fault)):
        return ""
    homes = sorted({str(param.device) for param in model.parameters()})
    away = sorted({str(tensor.device) for tensor in tensors_in(batch)} - set(homes))
    if not away:
        return ""
    return f"the batch lies on {', '.join(away)} and the model on {', '.join(homes)}: move one of them with .to(...)."


def mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same structure with every tensor changed, in the order of `tensors_in`; what was given stays as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        entries = {key: mapped(entry, change) for key, entry in value.items()}
        return _filled(value, entries) if isinstance(value, dict) else entries
    if isinstance(value, (tuple, list)) and not isinstance(value, PackedSequence):
        parts = [mapped(entry, change) for entry in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if is_dataclass(value) and not isinstance(value, type):
        other = copy.copy(value)
        for one in fields(value):
            # As a frozen one sets them itself.
            object.__setattr__(other, one.name, mapped(getattr(value, one.name), change))
        return other
    return value


def _filled(like: dict[Any, Any], entries: dict[Any, Any]) -> dict[Any, Any]:
    """A dict of the same class, whose attributes may follow its entries (the outputs of transformers)."""
    if type(like) is dict:
        return entries
    other = copy.copy(like)
    for key, entry in entries.items():
        other[key] = entry
    return other


def exchanged(value: Any, place: int, change: Callable[[Tensor], Any]) -> Any:
    """The same structure with one tensor changed.

    Args:
        value: nested tuples, lists, dicts and dataclasses.
        place: which of `tensors_in`.
        change: called with it.

    Example:
        >>> exchanged({"logits": torch.ones(1), "hidden": torch.ones(1)}, 1, torch.neg)
        {'logits': tensor([1.]), 'hidden': tensor([-1.])}
    """
    count = itertools.count()
    return mapped(value, lambda tensor: change(tensor) if next(count) == place else tensor)


def _takes_two(loss_fn: LossFn) -> bool:
    # A module's own signature is (*args, **kwargs); what it takes is what its forward takes.
    called = loss_fn.forward if isinstance(loss_fn, nn.Module) else loss_fn
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):  # a built-in without a signature
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    return len(needed) > 1 or any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)


def _own_loss(output: Any) -> object:
    if isinstance(output, Mapping) and "loss" in output:
        return output["loss"]
    if getattr(output, "loss", None) is not None:
        return output.loss
    if isinstance(output, (tuple, list)) and output:
        return output[0]
    return output


def _scalar(found: object, who: str, way_out: str) -> Tensor:
    if not isinstance(found, Tensor):
        raise UsageError(
            f"{who} returned {type(found).__name__}; expected a tensor with one number, the loss. {way_out}"
        )
    if found.is_complex():
        raise UsageError(
            f"{who} returned a complex number ({str(found.dtype).removeprefix('torch.')}); expected a real one, the loss: "
            f"nothing descends on a complex number. Return its .real or its .abs(). {way_out}"
        )
    if found.numel() != 1 or not found.is_floating_point():
        dtype = str(found.dtype).removeprefix("torch.")
        raise UsageError(
            f"{who} returned a tensor of shape {tuple(found.shape)} and dtype {dtype}; expected one "
            f"floating-point number, the loss. {way_out}"
        )
    return found.reshape(())


def random_states() -> list[Tensor]:
    """State of the generators on the host and, where they are in use, on the accelerators."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call] # unlike is_available it asks no driver
        states += torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: list[Tensor]) -> None:
    """Put back what `random_states` returned."""
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])


def nodes_behind(tensors: Iterable[Tensor], most: int | None = None) -> Iterator[Any]:
    """The autograd nodes that some tensors lead back to, each once.

    Args:
        tensors: where to begin.
        most: nodes after which the rest of the graph is left alone.
    """
    waiting: list[Any] = [one.grad_fn for one in tensors]
    seen: set[Any] = set()
    while waiting and (most is None or len(seen) < most):
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions)
        yield node


def node_behind(node: Any) -> Any:
    """The autograd node that made a tensor's numbers, behind those that only gave them another shape."""
    while node is not None and is_shaper(node) and node.next_functions:
        node = node.next_functions[0][0]
    return node


def is_shaper(node: Any) -> bool:
    """Whether an autograd node only gives the same numbers another shape."""
    return bool(node.name().startswith(_SHAPERS))
