"""The functions of torch that say what a training does, replaced by ones that also tell us.

Everything else is heard through torch's own global optimizer hooks. A replacement calls the original
with the arguments it was given and returns what that returns; inside a compiled function it is the
original.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import GeneratorType
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from steadygrad.launch.arm.session import Session

Function = Callable[..., Any]

# A compiled step must not trace what is not its own. `torch.compiler.disable` would import the
# compiler now, for a script that may never use it; torch.optim puts it off in the same way.
_untraced: Callable[[Function], Function] = torch._disable_dynamo  # type: ignore[attr-defined]  # noqa: SLF001


def tap(session: Session) -> None:
    """Have a session told of every backward pass, clip, optimizer step and loss scale."""
    _replace_backward(session)
    _replace_clips(session)
    _replace_scaler(session)
    register_optimizer_step_pre_hook(_untraced(_stepping(session)))
    register_optimizer_step_post_hook(_untraced(_stepped(session)))


def _listening(session: Session) -> bool:
    return session.active and not torch.compiler.is_compiling()


def _replace_backward(session: Session) -> None:
    """``Tensor.backward`` looks this function up when it is called, so it need not be replaced."""
    original = torch.autograd.backward
    depth = 0

    @functools.wraps(original)
    def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal depth
        # Reentrant checkpointing calls this from within a backward pass.
        if depth or not _listening(session):
            original(tensors, *args, **kwargs)
            return
        depth += 1
        try:
            session.contained("loss capture", session.before_backward, tensors)
            original(tensors, *args, **kwargs)
        finally:
            depth -= 1
        with torch.no_grad():
            session.contained("gradient capture", session.after_backward, tensors)

    torch.autograd.backward = _untraced(backward)


def _replace_clips(session: Session) -> None:
    def by_norm(original: Function) -> Function:
        @functools.wraps(original)
        def clip_grad_norm_(*args: Any, **kwargs: Any) -> Any:
            if not _listening(session):
                return original(*args, **kwargs)
            params, args, kwargs = _with_params_kept(args, kwargs)
            seats = session.contained("clip capture", session.before_clip, params) or []
            norm = original(*args, **kwargs)
            limits = (args[1:], kwargs)
            for seat in seats:
                session.contained("clip capture", seat.after_clip, norm, _max_norm(*limits))
            return norm

        return clip_grad_norm_

    def by_value(original: Function) -> Function:
        @functools.wraps(original)
        def clip_grad_value_(*args: Any, **kwargs: Any) -> Any:
            if _listening(session):
                params, args, kwargs = _with_params_kept(args, kwargs)
                session.contained("clip capture", session.before_clip, params)
            return original(*args, **kwargs)

        return clip_grad_value_

    for name, make in (("clip_grad_norm_", by_norm), ("clip_grad_value_", by_value)):
        replacement = make(getattr(clip_grad, name))
        for place in (clip_grad, torch.nn.utils):
            setattr(place, name, replacement)


def _with_params_kept(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Tensor], Any, Any]:
    """The parameters of a clip call, and its arguments with those not used up."""
    given = args[0] if args else kwargs.get("parameters")
    if isinstance(given, Tensor) or not isinstance(given, Iterable):
        return ([given] if isinstance(given, Tensor) else []), args, kwargs
    params = list(given)
    # torch warns of a generator that is empty, so a generator it must stay.
    again: Any = (param for param in params) if isinstance(given, GeneratorType) else given
    if args:
        return params, (again, *args[1:]), kwargs
    return params, args, {**kwargs, "parameters": again}


def _max_norm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """The bound of a clip by L2 norm; None for another norm."""
    names = ("max_norm", "norm_type")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return float(given["max_norm"]) if float(given.get("norm_type", 2.0)) == 2.0 else None


def _replace_scaler(session: Session) -> None:
    scaler = torch.amp.GradScaler
    scale, update = scaler.scale, scaler.update

    @functools.wraps(scale)
    def scaled(self: Any, outputs: Any) -> Any:
        result = scale(self, outputs)
        # A scaler that is switched off hands back what it was given.
        if _listening(session) and isinstance(outputs, Tensor) and result is not outputs:
            # Asking for the scale as a number would wait for the device.
            factor = scale(self, torch.ones((), device=outputs.device))
            session.contained("loss scale", session.losses.scaled_by, factor, outputs, result)
        return result

    @functools.wraps(update)
    def updated(self: Any, *args: Any, **kwargs: Any) -> None:
        update(self, *args, **kwargs)
        if _listening(session):
            session.losses.rescaled()

    scaler.scale = scaled  # type: ignore[method-assign]
    scaler.update = updated  # type: ignore[method-assign]


def _stepping(session: Session) -> Function:
    def before(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not _listening(session):
            return
        # args[0] is the optimizer itself.
        given = kwargs.get("closure", args[1] if len(args) > 1 else None)

        def tell() -> None:
            session.before_step(optimizer, closure=callable(given))

        with torch.no_grad():
            session.contained("step capture", tell)

    return before


def _stepped(session: Session) -> Function:
    def after(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del args, kwargs
        if _listening(session):
            session.contained("step capture", session.after_step, optimizer)

    return after
