"""The functions of torch that say what a training does, replaced by ones that also tell us.

Everything else is heard through torch's own global optimizer hooks. A replacement calls the original
with the arguments it was given and returns what that returns; inside a compiled function it is the
original.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from steadygrad.forward_hook import unheard
from steadygrad.launch.arm.clip_taps import tap_clips
from steadygrad.launch.arm.session import Session

Function = Callable[..., Any]

# A compiled step must not trace what is not its own. `torch.compiler.disable` would import the
# compiler now, for a script that may never use it; torch.optim puts it off in the same way.
_NO_PASS = -1
_untraced: Callable[[Function], Function] = torch._disable_dynamo  # type: ignore[attr-defined]  # noqa: SLF001


def tap(session: Session) -> None:
    """Have a session told of every backward pass, clip, optimizer step and loss scale."""
    _replace_backward(session)
    tap_clips(session)
    _replace_scaler(session)
    _replace_scripting(session)
    register_optimizer_step_pre_hook(_untraced(_stepping(session)))
    register_optimizer_step_post_hook(_untraced(_stepped(session)))


def _listening(session: Session) -> bool:
    return session.active and not torch.compiler.is_compiling()


def _replace_backward(session: Session) -> None:
    """``Tensor.backward`` looks this function up when it is called, so it need not be replaced."""
    original = torch.autograd.backward

    @functools.wraps(original)
    def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        # Reentrant checkpointing calls this from within a backward pass.
        if not _listening(session) or torch._C._current_graph_task_id() != _NO_PASS:  # noqa: SLF001
            original(tensors, *args, **kwargs)
            return
        gradient = args[0] if args else kwargs.get("grad_tensors")
        with torch.no_grad():
            session.contained("loss capture", session.before_backward, tensors, gradient)
        original(tensors, *args, **kwargs)
        with torch.no_grad():
            session.contained("gradient capture", session.after_backward, tensors)

    torch.autograd.backward = _untraced(backward)


def _replace_scaler(session: Session) -> None:
    scaler = torch.amp.GradScaler
    scale, step, update = scaler.scale, scaler.step, scaler.update

    @functools.wraps(scale)
    def scaled(self: Any, outputs: Any) -> Any:
        result = scale(self, outputs)
        # A scaler that is switched off hands back what it was given.
        if _listening(session) and isinstance(outputs, Tensor) and result is not outputs:
            # Asking for the scale as a number would wait for the device.
            factor = scale(self, torch.ones((), device=outputs.device))
            session.contained("loss scale", session.losses.scaled_by, factor, outputs, result)
        return result

    @functools.wraps(step)
    def stepped(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        made = session.steps_asked
        result = step(self, optimizer, *args, **kwargs)
        if _listening(session) and isinstance(optimizer, Optimizer) and session.steps_asked == made:
            with torch.no_grad():
                session.contained("loss scale", session.left_out, optimizer)
        return result

    @functools.wraps(update)
    def updated(self: Any, *args: Any, **kwargs: Any) -> None:
        update(self, *args, **kwargs)
        if _listening(session):
            session.losses.rescaled()

    scaler.scale = scaled  # type: ignore[method-assign]
    scaler.step = stepped  # type: ignore[method-assign]
    scaler.update = updated  # type: ignore[method-assign]


def _replace_scripting(session: Session) -> None:
    """A model that is exported in the middle of its training: TorchScript would compile our hooks too."""
    original = torch.jit.script

    @functools.wraps(original)
    def script(obj: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(obj, nn.Module) and session.active:
            with unheard(obj):
                return original(obj, *args, **kwargs)
        if not args:
            # Names are looked up where the caller stands, which is one frame further away.
            kwargs["_frames_up"] = kwargs.get("_frames_up", 0) + 1
        return original(obj, *args, **kwargs)

    torch.jit.script = script


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
