"""Gains of one training step, without the rest of a checkup."""

from __future__ import annotations

import torch
from torch import nn

from steadygrad.calling import LossFn, call_model, loss_of
from steadygrad.gains.probe import GainProbe
from steadygrad.gains.record import Gains
from steadygrad.preserve import backward_into, preserved


def measure_gains(model: nn.Module, batch: object, loss_fn: LossFn | None = None) -> Gains:
    """Measure the growth of the gradient from layer to layer and from time step to time step.

    Args:
        model: left as it was.
        batch: what it takes.
        loss_fn: as in `steadygrad.check`.

    Returns:
        The gains.

    Example:
        >>> model = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(4)))
        >>> gains = measure_gains(model, torch.randn(16, 8), lambda out: out.square().mean())
        >>> len(gains.layers), gains.per_layer < 1
        (4, True)
    """
    probe = GainProbe(model)
    with preserved(model, loss_fn), torch.enable_grad(), probe.attached():
        loss = loss_of(call_model(model, batch), batch, loss_fn)
        probe.forward_ended(loss)
        if loss.requires_grad:
            backward_into(loss, model.parameters())
    return probe.gains()
