"""Forward and backward passes of the recorded calls, and what drives them: the loss function or what it sent back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygrad.calling import LossFn, loss_of, random_states, restore_random_states, tensors_in
from steadygrad.replay.batch import Batch, Call
from steadygrad.replay.subject import Subject

ALIKE = 1e-2
"""Share by which a replayed gradient may differ from the recorded one, after the best common factor: other threads and
kernels sum in another order."""
ACCUMULATES = 1.5
"""A common factor above it is a loss scale (2 and more); below, the loss was divided for accumulation."""


@dataclass(slots=True)
class Driver:
    """What makes gradients of outputs.

    Attributes:
        loss_fn: the factory's.
        by_record: whether the gradients that came back in the run are used, since the loss function sees another
            target.
        factor: what the loss was multiplied by in the run.
        loss_scale: what the recorded gradients are still multiplied by.
    """

    loss_fn: LossFn | None
    by_record: bool = False
    factor: float = 1.0
    loss_scale: float = 1.0


@dataclass(slots=True)
class Pass:
    """One pass over all calls.

    Attributes:
        loss: their mean loss; NaN where only the record tells.
        outputs: of each call, the outputs that require a gradient.
    """

    loss: Tensor
    outputs: list[list[Tensor]]


def forward(subject: Subject, batch: Batch, driver: Driver) -> Pass:
    """Run the calls."""
    losses, outputs = [], []
    for call in batch.calls:
        output = outputs_of(subject, call)
        found = [one for one in tensors_in(output) if one.requires_grad]
        outputs.append(found)
        if not driver.by_record:
            losses.append(loss_of(output, batch.given, driver.loss_fn))
    loss = (
        torch.stack([one.float() if one.dtype == torch.float16 else one for one in losses]).mean()
        if losses
        else torch.tensor(torch.nan)
    )
    return Pass(loss, outputs)


def backward(done: Pass, batch: Batch, driver: Driver) -> None:
    """Leave the gradients of the step in the parameters."""
    if not driver.by_record:
        (done.loss * (driver.factor * len(batch.calls))).backward()  # type: ignore[no-untyped-call]
        return
    for call, outputs in zip(batch.calls, done.outputs, strict=True):
        pairs = [
            (outputs[i], one / driver.loss_scale)
            for i, one in (call.gradients or {}).items()
            if i < len(outputs)
        ]
        if pairs:
            roots, flowing = zip(*pairs, strict=True)
            torch.autograd.backward(roots, [g.to(o.dtype) for o, g in zip(roots, flowing, strict=True)])


def outputs_of(subject: Subject, call: Call) -> object:
    """What the module returns, with the random state of the run."""
    if call.random is not None:
        with contextlib.suppress(RuntimeError, IndexError):
            restore_random_states(call.random[:1] if len(random_states()) == 1 else call.random)
    with _autocast(call):
        return subject.module(call.module)(*call.args, **call.kwargs)


def driver_of(subject: Subject, batch: Batch, loss_fn: LossFn | None, loss_scale: float | None) -> Driver:
    """Does the factory's loss function send back what came back in the run? Then it sees the same target."""
    plain = Driver(loss_fn, loss_scale=loss_scale or 1.0)
    if not batch.recorded or not any(call.gradients for call in batch.calls):
        return plain
    parts = [call for call in batch.calls if call.module and subject.module(call.module) is not subject.model]
    record = Driver(loss_fn, by_record=True, loss_scale=loss_scale or 1.0)
    if parts:
        return record
    try:
        factor = _common_factor(*_both(subject, batch, plain))
    except Exception:  # noqa: BLE001 - a loss function may refuse a batch of another length
        return record
    if factor is None:
        return record
    if loss_scale is not None:
        plain.factor = factor / loss_scale
    elif factor <= ACCUMULATES:
        plain.factor = factor
    return plain


def _both(subject: Subject, batch: Batch, driver: Driver) -> tuple[Tensor, Tensor]:
    """The recorded gradients of all outputs, and those that the loss function sends back now."""
    done = forward(subject, batch, driver)
    flat = [one for outputs in done.outputs for one in outputs]
    now = torch.autograd.grad(done.loss * len(batch.calls), flat, allow_unused=True, materialize_grads=True)
    then: list[Tensor] = []
    for call, outputs in zip(batch.calls, done.outputs, strict=True):
        known = call.gradients or {}
        then += [known.get(i, torch.zeros_like(one)) for i, one in enumerate(outputs)]
    return _joined(then), _joined(now)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([one.detach().double().reshape(-1).cpu() for one in tensors])


def _common_factor(then: Tensor, now: Tensor) -> float | None:
    """The factor between them; None where they aren't multiples of each other."""
    both = torch.isfinite(then) & torch.isfinite(now)
    if bool((torch.isfinite(then) != torch.isfinite(now)).any()):
        return None
    then, now = then[both], now[both]
    own = float(now.dot(now))
    if own == 0.0:
        return 1.0 if float(then.norm()) == 0.0 else None
    factor = float(then.dot(now)) / own
    apart = float((then - factor * now).norm())
    return factor if factor > 0.0 and apart <= ALIKE * float(then.norm()) else None


@contextlib.contextmanager
def _autocast(call: Call) -> Iterator[None]:
    with contextlib.ExitStack() as casts:
        for device, dtype in call.autocast:
            casts.enter_context(torch.autocast(device, dtype=dtype))
        yield
