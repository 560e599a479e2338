"""What is to be looked at: the arguments of `check`, asked about before anything runs."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.rnn import PackedSequence
from torch.optim import Optimizer

from steadygrad.calling import call_model
from steadygrad.checkup.rehearsal import copied
from steadygrad.errors import UsageError
from steadygrad.preserve import preserved


def subject(
    model: object, batch: object, loss_fn: object, optimizer: object
) -> tuple[nn.Module, Optimizer | None]:
    """The module to look at and its optimizer, once the call makes sense.

    Args:
        model: as the user gave it; a compiled one is looked at eagerly, a lazy one and its optimizer as copies.
        batch: as the user gave it.
        loss_fn: as the user gave it.
        optimizer: as the user gave it.

    Raises:
        UsageError: an argument is of the wrong kind, the batch doesn't fit the model's ``forward``, or no gradients
            can be listened to (inference mode, TorchScript).
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"check(model, ...): expected a torch.nn.Module, got {type(model).__name__}.")
    if loss_fn is not None and not callable(loss_fn):
        hint = " An optimizer is the fourth argument." if isinstance(loss_fn, Optimizer) else ""
        raise UsageError(
            f"check(model, batch, loss_fn): expected a function, got {type(loss_fn).__name__}.{hint}"
        )
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise UsageError(
            f"check(..., optimizer): expected a torch.optim.Optimizer, got {type(optimizer).__name__}."
        )
    inner: Any = getattr(model, "_orig_mod", model)
    plain = inner if isinstance(inner, nn.Module) else model
    _check_can_be_heard(plain)
    if any(map(is_lazy, plain.parameters())):
        # The first forward pass turns it into another model: let that be a copy.
        if optimizer is None:
            plain = copy.deepcopy(plain)
        else:
            twin = copied(plain, optimizer, batch, None)
            plain, optimizer = twin.model, twin.optimizer
        with preserved(nn.Identity()), torch.no_grad():
            call_model(plain, batch)
    elif not any(True for _ in plain.parameters()):
        raise UsageError(
            f"check(model, ...): {type(plain).__name__} has no parameters: nothing can be trained."
        )
    _check_fits(plain, batch)
    return plain, optimizer


def _check_can_be_heard(model: nn.Module) -> None:
    if torch.is_inference_mode_enabled():
        raise UsageError(
            "check(): there are no gradients inside torch.inference_mode(). Call it outside, on a batch made outside."
        )
    scripted = [name for name, one in model.named_modules() if isinstance(one, torch.jit.ScriptModule)]
    if scripted:
        raise UsageError(
            f"check(model, ...): {scripted[0] or 'the model'} has a part compiled by torch.jit, which can't be listened "
            "to. Give the module that it was made from."
        )


def _check_fits(model: nn.Module, batch: object) -> None:
    """``forward`` must be callable with the batch: targets are often handed over with it by mistake."""
    try:
        takes = inspect.signature(model.forward)
    except (TypeError, ValueError):  # a scripted module has no signature
        return
    args: tuple[Any, ...] = (batch,)
    kwargs: dict[str, Any] = {}
    if isinstance(batch, Mapping):
        args, kwargs = (), dict(batch)
    elif isinstance(batch, (tuple, list)) and not isinstance(batch, PackedSequence):
        args = tuple(batch)
    try:
        takes.bind(*args, **kwargs)
    except TypeError as mismatch:
        shape = f"the keywords {', '.join(kwargs)}" if kwargs else f"the {len(args)} values"
        raise UsageError(
            f"check(model, batch): {type(model).__name__}.forward{takes} can't be called with {shape} of the batch "
            f"({mismatch}). batch is what the model takes: a tuple or list is handed over by position, a dict by "
            "name. Targets belong into loss_fn, for example as lambda output: F.cross_entropy(output, targets)."
        ) from None
