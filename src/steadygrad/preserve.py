"""Use a model, and leave it as it was found: for calls that look and must not touch."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from steadygrad.calling import nodes_behind, random_states, restore_random_states


@contextlib.contextmanager
def preserved(model: nn.Module, *others: object, weights: bool = False) -> Iterator[None]:
    """Put back gradients, buffers, modes, attributes and random states on the way out, also after an exception.

    Args:
        model: forward and backward passes may be run on it inside.
        *others: what else takes part, such as a loss function; modules among them are kept too.
        weights: also keep a copy of the parameters and put their values back; for a body that changes
            them. Without it the body must not.
    """
    modules = _modules([model, *others])
    params = list({id(param): param for module in modules for param in module.parameters(False)}.values())
    grads = [param.grad for param in params]
    kept_weights = [param.detach().clone() for param in params] if weights else []
    held = [buffer for module in modules for buffer in module.buffers(False) if not is_lazy(buffer)]
    buffers = [(buffer, buffer.detach().clone()) for buffer in held]
    states = random_states(), random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's is kept
    for param in params:
        param.grad = None
    with contextlib.ExitStack() as stack:
        # Callbacks run last in, first out: a rebound buffer is put back before its values are.
        stack.callback(_restore_random, *states)
        stack.callback(_put_back, params, kept_weights, grads)
        stack.callback(_refill, buffers)
        for module in modules:
            # A lazy module becomes another class in its first pass, and can't go back.
            if not any(map(is_lazy, module.parameters(False))):
                stack.callback(_restore_attributes, module, *_attributes(module))
        for param in params:
            _silence(param, stack)
        yield


def backward_into(loss: Tensor, params: Iterable[Tensor]) -> None:
    """Run the backward pass, and leave a gradient in these parameters only.

    A loss function may reach tensors that nobody asked about: a teacher, a discriminator, a batch that requires
    a gradient. Theirs stay as they were.

    Args:
        loss: one number.
        params: where gradients are wanted.
    """
    own = {id(param) for param in params}
    others = [(leaf, leaf.grad) for leaf in leaves_of([loss]) if id(leaf) not in own]
    for leaf, _ in others:
        leaf.grad = None
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    finally:
        for leaf, grad in others:
            leaf.grad = grad


def _modules(things: Iterable[object]) -> list[nn.Module]:
    found = [module for one in things if isinstance(one, nn.Module) for module in one.modules()]
    return list(dict.fromkeys(found))


def leaves_of(tensors: Iterable[Tensor], most: int | None = None) -> list[Tensor]:
    """Tensors in which a backward pass from these leaves a gradient, as far as the first ``most`` nodes of their graph."""
    found = (getattr(node, "variable", None) for node in nodes_behind(tensors, most))
    return [leaf for leaf in found if isinstance(leaf, Tensor)]


def _attributes(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the module holds, and what its containers hold: a forward pass may keep a state or a list of losses."""
    held = dict(module.__dict__)
    containers = {name: value.copy() for name, value in held.items() if type(value) in (list, dict, set)}
    return held, containers


def _restore_attributes(module: nn.Module, held: dict[str, Any], containers: dict[str, Any]) -> None:
    for name in [name for name in module.__dict__ if name not in held]:
        del module.__dict__[name]
    module.__dict__.update(held)
    for name, value in containers.items():
        container = held[name]
        if _same_items(container, value):
            continue
        container.clear()
        (container.extend if isinstance(container, list) else container.update)(value)


def _same_items(one: Any, other: Any) -> bool:
    """Whether nothing came or went; asked by identity, since tensors don't answer ``==`` with one truth."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(one[name] is other[name] for name in one)
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _silence(param: nn.Parameter, stack: contextlib.ExitStack) -> None:
    """Keep an optimizer that lives inside the backward pass from stepping."""
    hooks = getattr(param, "_post_accumulate_grad_hooks", None)
    if hooks:
        kept = dict(hooks)
        hooks.clear()
        stack.callback(hooks.update, kept)


def _put_back(params: list[nn.Parameter], values: list[Tensor], grads: list[Tensor | None]) -> None:
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    if values:
        for param, value in zip(params, values, strict=True):
            param.detach().copy_(value)


def _refill(buffers: list[tuple[Tensor, Tensor]]) -> None:
    for buffer, value in buffers:
        buffer.detach().copy_(value)


def _restore_random(torch_states: list[Tensor], python_state: Any, numpy_state: Any) -> None:
    restore_random_states(torch_states)
    random.setstate(python_state)
    np.random.set_state(numpy_state)  # noqa: NPY002
