"""Hold on to the newest calls of a model in training, so that a step that went wrong can be replayed.

Only references are kept, and the random state: a few microseconds a call. The gradient that comes back to
the model's output is kept too; with it the backward pass can be replayed without knowing the loss function.

Some models are never called as a whole: a module that only holds two networks, a Lightning module whose
``training_step`` calls ``self.net``. Of these the parts are listened to.

Inside compiled code no hook is heard. What `torch.compile` puts around a model is listened to as well, also where
that is done later; a model compiled in place, or within a function, can't be heard.
"""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.hooks import RemovableHandle

from steadygrad.calling import random_states, restore_random_states, tensors_in
from steadygrad.forward_hook import ForwardHook
from steadygrad.measure import is_sharded
from steadygrad.origin import LOSS, MOST_ROWS, Origin
from steadygrad.ranks import among_several
from steadygrad.tracing.finiteness import broken_rows, facts, has_nan, has_numbers, is_finite
from steadygrad.tracing.replay import Step, instrumented, uncompiled
from steadygrad.tracing.wrapping import on_compiled

MOST_CALLS = 4
"""Calls held at a time: a step may need two networks' worth (GAN) or a few micro-batches; each holds a batch."""

MOST_OUTPUTS = 16
"""Outputs whose gradient is kept; a model with more is replayed forward only."""


UNHEARD = (
    "no call of the model was heard: it came before the first step of a run, it isn't called as a whole, or from "
    "within compiled code (model.compile(), or a compiled function around it), where no hook is heard; attach to what "
    "torch.compile(model) returns"
)
MOST_KEPT = 65_536
"""Elements of an output that is kept itself; of a larger one it is seen only as long as the training holds it."""

NOT_AGAIN = (
    "replayed with the same inputs and random state, the model's output was finite, and in the step it wasn't: the model "
    "doesn't do the same twice (a counter or a queue of its own, random numbers that aren't torch's)"
)
UNMOVED = "replayed with the same inputs and random state, the step was finite"
ELSEWHERE = "a step of a sharded model, or on several ranks, can't be replayed by one process"

# A call that can't be kept can't be replayed, and that is all.
_FAILURES = contextlib.suppress(Exception)


class Replay(NamedTuple):
    """What a replay found.

    Attributes:
        origin: where the fault began; None where the replay was finite or could not be made.
        note: why there is none.
    """

    origin: Origin | None
    note: str = ""


@dataclass(eq=False, slots=True)
class Call:
    """One forward call, by reference.

    Attributes:
        module: what was called: the model, or a part of one that is never called as a whole.
        args: its positional arguments.
        kwargs: its keyword arguments.
        random: states of torch's generators before it.
        autocast: devices under autocast, and the dtype.
        gradients: what came back to its outputs, by position among those that require a gradient.
        outputs: these outputs, or references that don't hold them.
        computed: what of its arguments had been computed before: a NaN in these began there and not here.
        number: how many had been heard when it began.
        steps: the step that each optimizer made of it, by the optimizer's index.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    random: list[Tensor]
    autocast: tuple[tuple[str, torch.dtype], ...]
    gradients: dict[int, Tensor] = field(default_factory=dict)
    outputs: list[Callable[[], Tensor | None]] = field(default_factory=list)
    computed: tuple[Tensor, ...] = ()
    number: int = 0
    steps: dict[int, int] = field(default_factory=dict)

    def came_back(self, position: int, gradient: Tensor | None) -> None:
        """Keep what came back to an output; None came to one that the loss doesn't need, beside one that it does."""
        if gradient is not None:
            self.gradients[position] = gradient


class Capture:
    """Holds on to the newest calls of a model.

    Args:
        model: calls made with gradients enabled are kept, validation isn't.
        on_call: called as each of them begins.
    """

    def __init__(self, model: nn.Module, on_call: Callable[[], None] = lambda: None) -> None:
        self._model = uncompiled(model)
        self._listener: _Listener | None = _Listener(on_call)
        parts = _parts(self._model)
        self._listener.nested = bool(parts)
        self._heard: dict[int, int] = {}
        self._handles: list[RemovableHandle] = []
        for one in (model, *parts):
            self._listen(one)
        self._handles.append(on_compiled(self._model, self._listen))

    def _listen(self, module: nn.Module) -> None:
        listener = self._listener
        # Scripted modules take no hooks.
        if listener is None or isinstance(module, torch.jit.ScriptModule):
            return
        self._handles += [
            module.register_forward_pre_hook(ForwardHook(listener.before), prepend=True, with_kwargs=True),
            # A part that raised must not leave the others looking as if they were inside of it.
            module.register_forward_hook(ForwardHook(listener.after), always_call=listener.nested),
        ]

    def begins(self, optimizer: int) -> None:
        """An optimizer is about to step: what was heard before its last step is of no use to this one."""
        listener = self._listener
        if listener is None:
            return
        if self._heard.get(optimizer) == listener.heard:
            listener.calls.clear()
        self._heard[optimizer] = listener.heard

    def replay(self) -> Replay:
        """Run the newest calls again, newest first, until one shows where it became non-finite.

        The weights must still be those of the call.
        """
        listener = self._listener
        if listener is None or not listener.calls:
            return Replay(None, UNHEARD)
        model = _of_this_rank(self._model)
        if model is None:
            return Replay(None, ELSEWHERE)
        listener.deaf = True
        note = UNMOVED
        try:
            for call in reversed(listener.calls):
                if not all(map(is_finite, call.computed)):
                    continue
                # Never what DistributedDataParallel or torch.compile put around it: the other ranks would have to join.
                whole = uncompiled(call.module) is self._model
                found = _replayed(model, call, model if whole else call.module)
                if found.origin is not None:
                    return found
                note = found.note if note == UNMOVED else note
        finally:
            listener.deaf = False
        return Replay(None, note)

    def broken_call(self) -> Origin | None:
        """Where the newest call became NaN, if what it has returned did; an Inf may be a mask of what isn't allowed."""
        made = [one() for one in self._calls[-1].outputs] if self._calls else []
        if not any(one is not None and has_numbers(one) and has_nan(one) for one in made):
            return None
        return self.replay().origin

    def mark(self, optimizer: int, step: int) -> None:
        """The calls since this optimizer's last step are those of the step it is about to make."""
        for call in reversed(self._calls):
            if optimizer in call.steps:
                return
            call.steps[optimizer] = step

    def calls_of(self, optimizer: int, step: int) -> list[Call]:
        """The calls of one step that are still held, oldest first; only those that got a gradient, if some did."""
        found = [one for one in self._calls if one.steps.get(optimizer) == step]
        return [one for one in found if one.gradients] or found

    def newest_of_training(self) -> int:
        """Number of the newest call in training mode, or that a gradient came back to; 0 without one."""
        return next((one.number for one in reversed(self._calls) if one.gradients or one.module.training), 0)

    def some_gradient(self) -> Tensor | None:
        """Gradient of the first parameter that has one."""
        return next((one.grad for one in self._model.parameters() if one.grad is not None), None)

    @property
    def at_rest(self) -> bool:
        """Whether no backward pass is to come that a replay would spoil: it writes to buffers, which a graph may have saved."""
        return all(one.gradients for one in self._calls) or next(self._model.buffers(), None) is None

    @property
    def _calls(self) -> deque[Call]:
        return deque() if self._listener is None else self._listener.calls

    def close(self) -> None:
        """Take the hooks off and let go of everything."""
        for handle in self._handles:
            handle.remove()
        if self._listener is not None:
            self._listener.calls.clear()
        self._listener = None


class _Listener:
    """What the hooks call.

    Attributes:
        deaf: whether to do nothing.
        calls: the newest calls.
        heard: how many there have been.
        nested: several modules are listened to, and one may be called within another.
    """

    def __init__(self, on_call: Callable[[], None]) -> None:
        self.deaf = False
        self._on_call = on_call
        self.calls: deque[Call] = deque(maxlen=MOST_CALLS)
        self.heard = 0
        self.nested = False
        self._depth = 0

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the call that begins, if it is no part of another."""
        if self.deaf or not torch.is_grad_enabled():
            return
        self._on_call()
        self._depth += 1
        self.heard += 1
        if self.nested and self._depth > 1:
            return
        with _FAILURES:
            call = Call(module, args, kwargs, random_states(), _autocast(), number=self.heard)
            self.calls.append(_cut_off(call) if self.nested else call)

    def after(self, module: nn.Module, args: object, output: object) -> None:
        """Have the gradients of its output kept."""
        del module, args
        if self.deaf or not torch.is_grad_enabled():
            return
        self._depth = max(0, self._depth - 1)
        if not self.calls or (self.nested and self._depth):
            return
        with _FAILURES:
            self._keep_gradients(output)

    def _keep_gradients(self, output: object) -> None:
        found = [output] if type(output) is Tensor else tensors_in(output)
        outputs = [tensor for tensor in found if tensor.requires_grad]
        if len(outputs) <= MOST_OUTPUTS:
            call = self.calls[-1]
            for position, tensor in enumerate(outputs):
                _hook_onto(tensor, partial(call.came_back, position))
                call.outputs.append(_held(tensor))


def _held(tensor: Tensor) -> Callable[[], Tensor | None]:
    """A small output itself, without its graph; a large one, or one whose memory isn't its own, as long as it lives.

    Gone is also what has been changed in place since, as by a mask in the loss: it isn't what the model put out.
    """
    # Inference tensors have no version, but they require no gradient either.
    version = tensor._version
    small = type(tensor) is Tensor and tensor.device.type == "cpu" and tensor.numel() <= MOST_KEPT
    kept = tensor.detach() if small else None
    alive = weakref.ref(tensor)

    def found() -> Tensor | None:
        held = alive() if kept is None else kept
        return held if held is not None and held._version == version else None

    return found


def _hook_onto(tensor: Tensor, hook: Callable[[Tensor | None], None]) -> None:
    """`Tensor.register_hook` without the handle to take it off by: it is two thirds of the time, 35 us a step."""
    if type(tensor) is not Tensor:
        tensor.register_hook(hook)  # type: ignore[no-untyped-call]
        return
    if tensor._backward_hooks is None:
        tensor._backward_hooks = OrderedDict()
        if tensor.grad_fn is not None:
            tensor.grad_fn._register_hook_dict(tensor)
    hooks = tensor._backward_hooks
    hooks[-1 - len(hooks)] = hook  # a handle's key is 0 or more


def _parts(model: nn.Module) -> list[nn.Module]:
    """What to listen to besides: the parts of a model that isn't, or may not be, called as a whole."""
    # A scripted model's class answers for ``forward`` only through an instance.
    if inspect.getattr_static(type(model), "forward") is not nn.Module.forward and not hasattr(
        model, "training_step"
    ):
        return []
    parts: list[nn.Module] = []
    for child in model.children():
        holds = isinstance(child, (nn.ModuleList, nn.ModuleDict))
        parts += child.children() if holds else [child]
    return list(dict.fromkeys(parts))


def _cut_off(call: Call) -> Call:
    """The call, without the graph behind what it was given: a backward pass must end here."""
    given = tensors_in([call.args, call.kwargs])
    call.computed = tuple(tensor.detach() for tensor in given if tensor.grad_fn is not None)
    if call.computed:
        call.args, call.kwargs = tree_map_only(Tensor, Tensor.detach, (call.args, call.kwargs))
    return call


def _autocast() -> tuple[tuple[str, torch.dtype], ...]:
    if not torch._C._is_any_autocast_enabled():
        return ()
    devices = ("cpu", "cuda") if torch.cuda.is_initialized() else ("cpu",)  # type: ignore[no-untyped-call]
    return tuple(
        (name, torch.get_autocast_dtype(name)) for name in devices if torch.is_autocast_enabled(name)
    )


def _of_this_rank(model: nn.Module) -> nn.Module | None:
    """What one process can run without the others: of a data-parallel model the module inside."""
    # Even alone: after a replay of a model under fully_shard its next forward pass was seen to meet parameters still sharded.
    if any(map(is_sharded, model.parameters())):
        return None
    if not among_several():
        return model
    if not isinstance(model, nn.parallel.DistributedDataParallel):
        return None
    inner = uncompiled(model.module)
    talks = any(isinstance(one, nn.SyncBatchNorm) for one in inner.modules())
    return None if talks else inner


def _replayed(model: nn.Module, call: Call, called: nn.Module) -> Replay:
    batch: Mapping[str, Any] | Sequence[Any] = call.kwargs if call.kwargs and not call.args else call.args
    with instrumented(model, batch) as step:
        restore_random_states(call.random)
        with contextlib.ExitStack() as casts:
            for device, dtype in call.autocast:
                casts.enter_context(torch.autocast(device, dtype=dtype))
            output = uncompiled(called)(*call.args, **call.kwargs)
        return _of_output(step, tensors_in(output), call)


def _of_output(step: Step, found: list[Tensor], call: Call) -> Replay:
    step.forward_ended()
    origin = step.broken_in(found)
    if origin is not None:
        return Replay(origin)
    outputs = [tensor for tensor in found if tensor.requires_grad]
    pairs = [(outputs[i], gradient) for i, gradient in call.gradients.items() if i < len(outputs)]
    broken = [gradient for _, gradient in pairs if has_numbers(gradient) and not is_finite(gradient)]
    if broken:
        return _of_loss(outputs, broken, [one() for one in call.outputs])
    if not pairs:
        return Replay(None, UNMOVED)
    roots, flowing = zip(*pairs, strict=True)
    origin = step.broken_in_gradients(lambda: torch.autograd.backward(roots, flowing))
    return Replay(origin, "" if origin else UNMOVED)


def _of_loss(outputs: list[Tensor], gradients: list[Tensor], were: list[Tensor | None]) -> Replay:
    """What came back from the loss is broken: so was what it was given, or it has done that itself.

    Args:
        outputs: of the replay, all finite.
        gradients: that came back in the step and aren't finite.
        were: the step's own outputs; None where one is gone or has been changed since.
    """
    for one in were:
        if one is not None and has_numbers(one) and not is_finite(one):
            rows = ", ".join(map(str, broken_rows(one, len(one) if one.dim() else None)[:MOST_ROWS]))
            return Replay(None, f"{NOT_AGAIN} (rows {rows} of its output)" if rows else NOT_AGAIN)
    unless = ", or the model doesn't do the same twice" if None in were else ""
    origin = Origin(
        phase="loss",
        kind="nan" if has_nan(gradients[0]) else "inf",
        operation=LOSS,
        module=None,
        inputs=facts(outputs),
        note="The model's output is finite, but the gradient that came back from the loss isn't: the loss "
        f"function made it{unless}. steadygrad.trace(model, batch, loss_fn) names the operation.",
    )
    return Replay(origin)
