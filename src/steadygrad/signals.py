"""Listens to the signals inside the model on a few steps: what units fire, how the gradient grows through time.

Hooks are put on for one step and taken off after it. They only look: the input of a recurrent module
that needs no gradient is given one, so that it can be listened to, and no other number changes.

Shape legend: T time steps, S samples, U units.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from steadygrad.calling import tensors_in
from steadygrad.containment import Containment
from steadygrad.detect.answers import AnswerDetector, Answers
from steadygrad.detect.look import look as summed_up
from steadygrad.detect.look import next_kept
from steadygrad.detect.scale import Size, is_past_start
from steadygrad.detect.signals import Fired, SignalDetector, Signals
from steadygrad.forward_hook import ForwardHook
from steadygrad.gains import TimeGain
from steadygrad.measure import Budget, LateReads, Spending
from steadygrad.measure.answers import NUMBERS, answers, listen
from steadygrad.measure.fired import WEIGHTED, fired, samples
from steadygrad.measure.sequence import Sequence
from steadygrad.records import Finding, FloatArray, Look, Reading

PART = "signal probe"
LEAST_SAMPLES = 16
_NUMBERS = 6
_SIZES = 3


@dataclass(slots=True)
class _Look:
    """One step that is listened to.

    Attributes:
        run: calls what is ours so that no fault of it gets out.
        layers: six numbers on the device by layer, see `Fired`.
        fed: three numbers by layer that the data enters, see `Size`.
        few: places of which it can't be said that all data is one number: it is little, or tokens.
        made: the same of what layers have returned.
        sequences: the first call of each recurrent module.
        answers: what was told from the last layer's output and its gradient.
        last: that layer.
        handles: the hooks.
        cost_s: time spent, in the hooks and around them.
        heard_s: time spent in the hooks alone.
    """

    run: Callable[..., Any]
    layers: dict[str, Tensor] = field(default_factory=dict)
    fed: dict[str, Tensor] = field(default_factory=dict)
    few: set[str] = field(default_factory=set)
    made: dict[str, Tensor] = field(default_factory=dict)
    sequences: dict[str, Sequence] = field(default_factory=dict)
    answers: Tensor | None = None
    last: str = ""
    handles: list[Any] = field(default_factory=list)
    cost_s: float = 0.0
    heard_s: float = 0.0

    def timed(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call what is ours inside of a backward pass."""
        began = time.perf_counter()
        result = self.run(PART, call, *args)
        self.heard(began)
        return result

    def heard(self, began: float) -> None:
        """Account for the time since ``began``, spent in a hook."""
        passed_s = time.perf_counter() - began
        self.cost_s += passed_s
        self.heard_s += passed_s


class Listener(Protocol):
    """Who is told what was heard."""

    @property
    def behind(self) -> bool:
        """Whether the step that is told of isn't the newest, or the next one has begun."""

    def finding(self, finding: Finding) -> None:
        """Something was found."""

    def look(self, look: Look) -> None:
        """A few numbers for the record."""


@dataclass(frozen=True, slots=True)
class _Note:
    """What a packet of numbers is."""

    step: int
    layers: tuple[str, ...]
    sequences: tuple[tuple[str, int, bool, bool], ...]
    fed: tuple[str, ...]
    made: tuple[str, ...]
    jumped: bool
    few: frozenset[str]
    answered: bool
    loss: float | None


class SignalProbe:
    """Listens, judges and tells.

    Args:
        model: held weakly.
        listener: receives what is found, and a few numbers of what is heard.
        containment: holds back faults of ours: they must not end a forward pass.
        overhead: share of the step time that may be spent in all; spaces the looks.
        guarded: a guard is attached.
        spending: what the time inside the model is added to.
    """

    def __init__(
        self,
        model: nn.Module,
        listener: Listener,
        containment: Containment,
        *,
        overhead: float,
        guarded: bool,
        spending: Spending | None = None,
    ) -> None:
        self._model = weakref.ref(model)
        self._listener = listener
        self._spending = spending or Spending()
        self._keep_from = 0
        self._containment = containment
        self._guarded = guarded
        self._budget = Budget(overhead, spending=self._spending)
        self._reads: LateReads[_Note] = LateReads()
        self._detector = SignalDetector()
        self._state = self._detector.start()
        self._answers = AnswerDetector()
        self._answered = self._answers.start()
        self._look: _Look | None = None
        self._start: Reading | None = None
        self._looked = False
        self._last = ""

    def waits_until(self, optimizer: int, step: int) -> float:
        """Step of this optimizer, from ``step`` on, before which plain ones may be told later; 0 while it listens."""
        due = math.inf if optimizer else self._budget.next_due
        return 0.0 if self._look is not None else due + 1 if due >= step else math.inf

    def after_step(self, reading: Reading) -> None:
        """A step has ended: judge what was heard, and listen to the next where that fits the budget."""
        if reading.optimizer:
            return
        if self._reads.waiting:
            self.deliver()
        self._start = self._start or reading
        look, self._look = self._look, None
        if look is not None:
            self._end(look, reading)
        is_due = self._budget.due(reading.step) and not self._listener.behind
        if is_due and PART not in self._containment.off:
            self._listen()

    def deliver(self) -> None:
        """Judge what has arrived."""
        while (arrived := self._reads.take()) is not None:
            note, numbers = arrived
            answered = Answers(*numbers[-NUMBERS:].tolist()) if note.answered else None
            signals = _signals(note, numbers[:-NUMBERS] if note.answered else numbers, answered)
            self._state, found = self._detector.observe(self._state, signals, guarded=self._guarded)
            for finding in (*found, *self._answer(note, answered)):
                self._listener.finding(finding)
            if found or signals.step >= self._keep_from:
                self._keep_from = next_kept(signals.step)
                self._listener.look(summed_up(signals))

    def _answer(self, note: _Note, answered: Answers | None) -> tuple[Finding, ...]:
        if answered is None:
            return ()
        self._answered, found = self._answers.observe(
            self._answered, note.step, answered, note.loss, guarded=self._guarded
        )
        return found

    def close(self) -> None:
        """Take the hooks off."""
        look, self._look = self._look, None
        if look is not None:
            _take_off(look)

    def _listen(self) -> None:
        model = self._model()
        if model is None or isinstance(model, torch.jit.ScriptModule):
            return
        began = time.perf_counter()
        look = self._look = _Look(self._containment.run)
        for name, module in model.named_modules():
            if isinstance(module, nn.RNNBase):
                look.handles.append(module.register_forward_pre_hook(ForwardHook(_Ear(look, _follow, name))))
                look.handles.append(module.register_forward_hook(ForwardHook(_Ear(look, _return, name))))
            elif isinstance(module, WEIGHTED):
                look.handles.append(module.register_forward_pre_hook(ForwardHook(_Ear(look, _hear, name))))
            elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
                look.few.add(name)
                continue
            elif _has_matrix(module):
                look.handles.append(module.register_forward_pre_hook(ForwardHook(_Ear(look, _enter, name))))
            else:
                continue
            if not self._looked:
                look.handles.append(module.register_forward_hook(ForwardHook(_Ear(look, _leave, name))))
            if not self._looked or name == self._last:
                look.handles.append(module.register_forward_hook(ForwardHook(_Ear(look, _answer, name))))
        look.cost_s += time.perf_counter() - began

    def _end(self, look: _Look, reading: Reading) -> None:
        began, step, self._looked = time.perf_counter(), reading.step, True
        self._last = look.last or self._last
        _take_off(look)
        sequences = {name: one for name, one in look.sequences.items() if one.norms is not None}
        numbers = [
            *look.layers.values(),
            *(one.norms for one in sequences.values() if one.norms is not None),
            *look.fed.values(),
            *look.made.values(),
            *([] if look.answers is None else [look.answers]),
        ]
        if numbers:
            home = numbers[0].device
            packet = torch.cat([one.to(home, torch.float32, non_blocking=True) for one in numbers])
            jumped = self._start is not None and is_past_start(self._start, reading)
            note = _Note(
                step,
                tuple(look.layers),
                tuple((name, one.length, one.gated, one.both_ways) for name, one in sequences.items()),
                tuple(look.fed),
                tuple(look.made),
                jumped,
                frozenset(look.few),
                look.answers is not None,
                reading.loss,
            )
            self._reads.send(packet, note)
        self._budget.paid(step, look.cost_s + time.perf_counter() - began)
        self._spending.spent_s += look.heard_s


class _Ear:
    """What a forward pre-hook calls."""

    def __init__(self, look: _Look, hear: Callable[[_Look, str, nn.Module, Any], Any], name: str) -> None:
        self._look = look
        self._hear = hear
        self._name = name

    def __call__(self, module: nn.Module, args: tuple[Any, ...], *output: Any) -> Any:
        if not torch.is_grad_enabled() or not args:
            return None
        began = time.perf_counter()
        changed = self._look.run(PART, self._hear, self._look, self._name, module, output or args)
        self._look.heard(began)
        return changed


def _take_off(look: _Look) -> None:
    for handle in look.handles:
        handle.remove()
    look.handles.clear()


def _hear(look: _Look, name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
    """Write down what the layers before have fired; the batch itself isn't fired."""
    values = args[0]
    if name in look.layers or type(values) is not Tensor or not values.numel():
        return
    if _is_data(values):
        _feed(look, name, module, values)
        return
    with torch.no_grad():
        some = samples(module, values.detach())
        if some is not None and some.shape[0] >= LEAST_SAMPLES:
            look.layers[name] = fired(some.float())


def _enter(look: _Look, name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
    """Write down what enters somebody's own layer, if it is data."""
    if type(args[0]) is Tensor and args[0].numel() and _is_data(args[0]):
        _feed(look, name, module, args[0])


def _is_data(values: Tensor) -> bool:
    """Whether no operation has made this, nor has it to be learnt: coordinates of which gradients are asked are data too."""
    return values.grad_fn is None and not isinstance(values, nn.Parameter)


def _feed(look: _Look, name: str, module: nn.Module, data: Tensor) -> None:
    """Write down how large the data is, where it enters a layer that is trained."""
    if (
        name not in look.fed
        and data.is_floating_point()
        and any(p.requires_grad for p in module.parameters())
    ):
        look.fed[name] = _size(data)
        if data.numel() < LEAST_SAMPLES:
            look.few.add(name)


def _leave(look: _Look, name: str, module: nn.Module, output: tuple[Any, ...]) -> None:
    """Write down how large it is what a layer returns."""
    del module
    made = [
        one for one in tensors_in(output) if one.is_floating_point() and one.requires_grad and one.numel()
    ]
    if made and name not in look.made:
        look.made[name] = _size(made[0])


def _answer(look: _Look, name: str, module: nn.Module, output: tuple[Any, ...]) -> None:
    """Hook onto what a layer returns; the first that hears a gradient is the last one, whose output is the model's."""
    del module
    if look.answers is None:
        listen(output, partial(_answered, look, name))


def _answered(look: _Look, name: str, output: Tensor, grad: Tensor) -> None:
    if look.answers is None:
        look.last, look.answers = name, look.timed(answers, output, grad)


def _has_matrix(module: nn.Module) -> bool:
    """Whether the module is somebody's own layer: torch's are known by their class."""
    own = not type(module).__module__.startswith("torch.")
    return own and any(param.dim() > 1 for param in module.parameters(recurse=False))


def _size(values: Tensor) -> Tensor:
    with torch.no_grad():
        wide = values.detach().float()
        return torch.stack([wide.square().mean().sqrt(), wide.min(), wide.max()])


def _follow(look: _Look, name: str, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Hook onto the input of a recurrent module; returns what it is to be called with, where that changes."""
    values = args[0].data if isinstance(args[0], PackedSequence) else args[0]
    if name in look.sequences or type(values) is not Tensor or not isinstance(module, nn.RNNBase):
        return None
    if _is_data(values):
        _feed(look, name, module, values)
    look.sequences[name] = Sequence(module)
    given = look.sequences[name].given(args[0], look.timed)
    return None if given is args[0] else (given, *args[1:])


def _return(look: _Look, name: str, module: nn.Module, output: tuple[Any, ...]) -> None:
    """Hook onto what a recurrent module returns."""
    del module
    if name in look.sequences:
        look.sequences[name].returned(output, look.timed)


def _signals(note: _Note, numbers: FloatArray, answered: Answers | None) -> Signals:
    layers = [
        Fired(name, *numbers[i * _NUMBERS : (i + 1) * _NUMBERS].tolist())
        for i, name in enumerate(note.layers)
    ]
    at, growths = len(note.layers) * _NUMBERS, []
    for name, length, gated, both_ways in note.sequences:
        norms, entered = numbers[at : at + length], float(numbers[at + length])
        at += length + 1
        if length > 1 and np.isfinite(norms).all():
            known = entered if math.isfinite(entered) else 0.0
            growths.append(
                TimeGain(name, tuple(norms.tolist()), gated=gated, both_ways=both_ways, entered=known)
            )
    sizes = numbers[at:].reshape(-1, _SIZES).tolist()
    fed = tuple(Size(name, *three) for name, three in zip(note.fed, sizes, strict=False))
    made = tuple(Size(name, *three) for name, three in zip(note.made, sizes[len(fed) :], strict=True))
    return Signals(
        note.step,
        tuple(layers),
        tuple(growths),
        fed,
        made,
        note.jumped,
        note.few,
        math.nan if answered is None else answered.off,
    )
