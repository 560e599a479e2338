"""The one training loop of the demo, whatever is trained and however."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad import Monitor
from steadygrad.demo.arms import Arm
from steadygrad.demo.workload import Workload
from steadygrad.errors import TrainingStopped
from steadygrad.notices import quiet
from steadygrad.records import Finding, Reading


@dataclass(slots=True)
class Training:
    """One training and what was noted on the way.

    Attributes:
        workload: what was trained.
        arm: how.
        model: the network, trained.
        initial: its parameters before the first step.
        norms: gradient norm of every step, before any clipping.
        clipped: steps in which gradients were scaled down.
        skipped: steps left out.
        ruined_at: step that made a weight non-finite.
        first_act: reading of the first step that the guard scaled or left out.
        stopped: the guard ended the training.
        findings: what steadygrad found.
        names: the parameters, in the order of the readings.
        run: file in which the training is recorded; None where recording failed.
    """

    workload: Workload
    arm: Arm
    model: nn.Module
    initial: list[Tensor]
    norms: list[float] = field(default_factory=list)
    clipped: int = 0
    skipped: int = 0
    ruined_at: int | None = None
    first_act: Reading | None = None
    stopped: bool = False
    findings: tuple[Finding, ...] = ()
    names: tuple[str, ...] = ()
    run: str | None = None


def train(
    workload: Workload, arm: Arm, seed: int, folder: Path, on_step: Callable[[], None] = lambda: None
) -> Training:
    """Train once.

    The seed fixes weights and order of data, so the arms differ in nothing but what they do to the
    gradients. A network whose weights are non-finite is not trained on: nothing can follow.

    Args:
        workload: what to train.
        arm: how to train it.
        seed: of weights and data order.
        folder: where the run file goes.
        on_step: called after each step.

    Returns:
        The training, finished.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = workload.build_model()
    training = Training(workload, arm, model, [param.detach().clone() for param in model.parameters()])
    optimizer = workload.build_optimizer(model)
    path = folder / f"{workload.key}-{arm.key}.steady"
    with quiet(), _one_thread_without_denormals(), arm.attach(model, optimizer, run=path) as monitor:
        try:
            for batch in workload.batches(seed):
                loss = workload.loss(model, batch)
                _step(training, optimizer, loss, monitor)
                on_step()
                if training.ruined_at is not None:
                    break
        except TrainingStopped:
            training.stopped = True
        training.findings, training.run = monitor.findings, monitor.run
        training.skipped = monitor.counts.skipped
        training.clipped += monitor.counts.clipped
    training.names = tuple(name for name, _ in model.named_parameters())
    return training


def _step(training: Training, optimizer: Optimizer, loss: Tensor, monitor: Monitor) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    monitor.log(loss=loss)
    step, max_norm = len(training.norms), training.arm.max_norm
    if max_norm is None:
        optimizer.step()
        reading = monitor.last
        norm = math.nan if reading is None else reading.total_norm
        if training.first_act is None and reading is not None and (reading.clipped or reading.skipped):
            training.first_act = reading
    else:
        norm = float(nn.utils.clip_grad_norm_(training.model.parameters(), max_norm))
        training.clipped += norm > max_norm
        optimizer.step()
    training.norms.append(norm)
    if not _all_finite(training.model):
        training.ruined_at = step


def _all_finite(model: nn.Module) -> bool:
    return all(bool(param.isfinite().all()) for param in model.parameters())


@contextmanager
def _one_thread_without_denormals() -> Iterator[None]:
    """One thread, which is fastest for small networks and sums in the same order everywhere.

    Dying networks are full of numbers near zero that processors are ten times slower with: those
    count as zero meanwhile.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
