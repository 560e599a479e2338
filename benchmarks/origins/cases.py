"""The matrix: faults x models x phases x modes of running."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.origins.faults import BACKWARD, FORWARD, Fault
from benchmarks.origins.models import MODELS, Faulty, mean_square
from steadygrad.origin import Origin
from steadygrad.tracing import Capture, trace

MODES = ("eager", "checkpointed", "bfloat16", "compiled", "in training")
OTHER_MODES_ON = ("root", "blocks", "conv")


@dataclass(frozen=True)
class Case:
    """One injected fault.

    Attributes:
        fault: what is wrong.
        model: key of `MODELS`.
        phase: the right phase.
        mode: one of `MODES`; ``in training`` replays a step that a loop has made.
        where: ``model`` or ``loss``.
    """

    fault: Fault
    model: str
    phase: str
    mode: str
    where: str = "model"

    def __str__(self) -> str:
        return f"{self.fault.name}, {self.model}, {self.where}, {self.mode}"


@dataclass(frozen=True)
class Answer:
    """What was right."""

    operation: bool
    module: bool
    line: bool
    phase: bool

    @property
    def exact(self) -> bool:
        """All of it."""
        return self.operation and self.module and self.line and self.phase


def cases() -> Iterator[Case]:
    """Every case."""
    for fault in (*FORWARD, *BACKWARD):
        phase = "backward" if fault.backward else "forward"
        for model in MODELS:
            yield Case(fault, model, phase, "eager")
        for model in OTHER_MODES_ON:
            for mode in MODES[1:]:
                yield Case(fault, model, phase, mode)
            yield Case(fault, model, "backward" if fault.backward else "loss", "eager", where="loss")


def answer(case: Case) -> Answer:
    """Trace one case."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the variance of one number warns, and is the point
        origin, name = _traced(case)
    if origin is None:
        return Answer(operation=False, module=False, line=False, phase=False)
    return Answer(
        operation=origin.operation in case.fault.operations,
        module=origin.module == name,
        line=origin.lineno == case.fault.lineno,
        phase=origin.phase == case.phase,
    )


def _traced(case: Case) -> tuple[Origin | None, str | None]:
    if case.where == "loss":
        model, batch, _, _ = MODELS[case.model](Faulty(lambda h: h))
        return trace(model, batch, lambda out: mean_square(case.fault.function(out))), None
    model, batch, loss_fn, name = MODELS[case.model](
        Faulty(case.fault.function, checkpointed=case.mode == "checkpointed")
    )
    if case.mode == "in training":
        return _replayed(model, batch, loss_fn), name
    if case.mode == "compiled":
        model = torch.compile(model, backend="eager")  # type: ignore[assignment]
    with _precision(case.mode):
        return trace(model, batch, loss_fn), name


def _replayed(model: nn.Module, batch: Tensor, loss_fn: Callable[[Any], Tensor] | None) -> Origin | None:
    capture = Capture(model)
    output = model(batch)
    (output if loss_fn is None else loss_fn(output)).backward()
    origin = capture.replay().origin
    capture.close()
    return origin


def _precision(mode: str) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16) if mode == "bfloat16" else contextlib.nullcontext()
