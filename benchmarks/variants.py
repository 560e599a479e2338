"""Ways to look at gradients while training, as people do it, beside steadygrad's."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import steadygrad as sg
from benchmarks.workloads import Training

Step = Callable[[], float]
"""One training step; returns the moment at which its backward pass had ended."""
Between = Callable[[], None]
MAX_NORM = 1.0


@contextlib.contextmanager
def opened(variant: str, training: Training) -> Iterator[Step]:
    """One training step under a variant, and whatever has to be closed afterwards."""
    with contextlib.ExitStack() as stack:
        yield VARIANTS[variant](training, stack)


def _loop(training: Training, between: Between) -> Step:
    def step() -> float:
        training.optimizer.zero_grad()
        training.backward()
        ready = time.perf_counter()
        between()
        training.optimizer.step()
        return ready

    return step


def _plain(training: Training, stack: contextlib.ExitStack) -> Step:
    del stack
    return _loop(training, lambda: None)


def _clip(training: Training) -> None:
    torch.nn.utils.clip_grad_norm_(training.model.parameters(), MAX_NORM)


def _clip_grad_norm(training: Training, stack: contextlib.ExitStack) -> Step:
    del stack
    return _loop(training, lambda: _clip(training))


def _item_loop(training: Training, stack: contextlib.ExitStack) -> Step:
    del stack
    log: list[list[float]] = []

    def between() -> None:
        log[:] = [[p.grad.norm().item() for p in training.model.parameters() if p.grad is not None]]
        _clip(training)

    return _loop(training, between)


def _detect_anomaly(training: Training, stack: contextlib.ExitStack) -> Step:
    del stack
    step = _loop(training, lambda: None)

    def watched() -> float:
        with torch.autograd.set_detect_anomaly(True):
            return step()

    return watched


def _tensorboard(training: Training, stack: contextlib.ExitStack) -> Step:
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - only where it is installed

    folder = stack.enter_context(tempfile.TemporaryDirectory())
    writer = SummaryWriter(folder)
    stack.callback(writer.close)
    count = 0

    def between() -> None:
        nonlocal count
        for name, param in training.model.named_parameters():
            if param.grad is not None:
                writer.add_scalar(f"grad_norm/{name}", param.grad.norm().item(), count)
        count += 1

    return _loop(training, between)


def _watch(training: Training, stack: contextlib.ExitStack) -> Step:
    stack.enter_context(sg.watch(training.model, training.optimizer))
    return _loop(training, lambda: None)


def _guard(training: Training, stack: contextlib.ExitStack, *, recover: bool | None = None) -> Step:
    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run.steady"
    stack.enter_context(sg.guard(training.model, training.optimizer, recover=recover, run=path))
    return _loop(training, lambda: None)


def _guard_alone(training: Training, stack: contextlib.ExitStack) -> Step:
    return _guard(training, stack, recover=False)


def _guard_clip(training: Training, stack: contextlib.ExitStack) -> Step:
    policy = sg.policies.clip_norm(MAX_NORM)
    stack.enter_context(sg.guard(training.model, training.optimizer, policy=policy))
    return _loop(training, lambda: None)


VARIANTS: dict[str, Callable[[Training, contextlib.ExitStack], Step]] = {
    "plain": _plain,
    "clip_grad_norm_": _clip_grad_norm,
    ".item() loop + clip": _item_loop,
    "detect_anomaly": _detect_anomaly,
    "TensorBoard scalars": _tensorboard,
    "sg.watch": _watch,
    "sg.guard": _guard,
    "sg.guard(recover=False)": _guard_alone,
    "sg.guard(clip_norm)": _guard_clip,
}
