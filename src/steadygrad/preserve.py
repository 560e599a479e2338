"""Use a model, and leave it as it was found: for calls that look and must not touch."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
from torch import Tensor, nn

from steadygrad.calling import random_states, restore_random_states


@contextlib.contextmanager
def preserved(model: nn.Module, *, weights: bool = False) -> Iterator[None]:
    """Put back gradients, buffers, modes and random states on the way out, also after an exception.

    Args:
        model: forward and backward passes may be run on it inside.
        weights: also keep a copy of the parameters and put their values back; for a body that changes
            them. Without it the body must not.
    """
    params = list(model.parameters())
    grads = [param.grad for param in params]
    kept_weights = [param.detach().clone() for param in params] if weights else []
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    homes = [(module, dict(module._buffers)) for module in model.modules()]  # noqa: SLF001 - a rebound one too
    modes = [(module, module.training) for module in model.modules()]
    states = random_states(), random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's is kept
    for param in params:
        param.grad = None
    try:
        yield
    finally:
        _put_back(params, kept_weights, grads)
        for module, own in homes:
            module._buffers.update(own)  # noqa: SLF001
        for buffer, value in buffers:
            buffer.detach().copy_(value)
        for module, training in modes:
            module.training = training
        restore_random_states(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])  # noqa: NPY002


def _put_back(params: list[nn.Parameter], values: list[Tensor], grads: list[Tensor | None]) -> None:
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    if values:
        for param, value in zip(params, values, strict=True):
            param.detach().copy_(value)
