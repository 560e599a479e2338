"""``trace``: where in one training step does the first non-finite number come from."""

from __future__ import annotations

from torch import nn

from steadygrad.calling import LossFn, call_model, device_hint, loss_of
from steadygrad.errors import UsageError
from steadygrad.origin import Origin
from steadygrad.tracing.replay import instrumented, uncompiled


def trace(model: nn.Module, batch: object, loss_fn: LossFn | None = None) -> Origin | None:
    """Find the operation that first makes a NaN or an Inf in one training step.

    Runs one forward and one backward pass and looks at what every operation returns. Blamed is the one that
    made a non-finite number out of finite ones *and* whose number reached the loss or a gradient: the -Inf of
    an attention mask, or a branch that ``where`` leaves out, is not. Model, gradients, buffers, modes and
    random states are left as they were. Costs about ten training steps.

    Args:
        model: any module; a compiled one is run eagerly.
        batch: what the model takes: a tensor, a tuple or list (positional), a dict (keywords).
        loss_fn: ``loss_fn(output)`` or ``loss_fn(output, batch)``; None for a model that returns its loss.

    Returns:
        The origin; None where loss and gradients are finite. Its line is the innermost one that is neither
        torch's nor steadygrad's; for the backward pass it is that of the forward operation.

    Raises:
        UsageError: the loss is not one floating-point number, or the batch lies on another device. What model and loss
            function raise themselves comes through.

    Example:
        >>> import torch, steadygrad as sg
        >>> model = torch.nn.Linear(2, 1)
        >>> origin = sg.trace(model, torch.zeros(4, 2), lambda out: (out - out.detach()).sqrt().sum())
        >>> origin.phase, origin.operation
        ('backward', 'SqrtBackward0')
    """
    model = uncompiled(model)
    with instrumented(model, batch) as step:
        try:
            output = call_model(model, batch)
            step.forward_ended()
            loss = loss_of(output, batch, loss_fn)
        except RuntimeError as fault:
            hint = device_hint(model, batch, fault)
            if not hint:
                raise
            raise UsageError(f"trace(model, batch): {hint} ({fault})") from fault
        found = step.broken_in([loss])
        if found is not None or not loss.requires_grad:
            return found
        return step.broken_in_gradients(loss.backward)
