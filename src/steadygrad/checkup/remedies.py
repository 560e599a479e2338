"""Remedies that are tried before they are recommended: each on a copy, for a few steps, ranked by what happened."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.calling import LossFn
from steadygrad.checkup.rehearsal import Pair, Rehearsal, copied, rehearse
from steadygrad.preserve import preserved
from steadygrad.records import Remedy

WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Trial:
    """One remedy and what it did.

    Attributes:
        remedy: what was changed.
        loss_before: of the first step.
        loss_after: after the last one; NaN where the run broke.
        finite: whether every loss was finite.
    """

    remedy: Remedy
    loss_before: float
    loss_after: float
    finite: bool

    @property
    def fall(self) -> float:
        """Share of the first loss that is left; Inf where the run broke."""
        if not self.finite:
            return math.inf
        return self.loss_after / self.loss_before if self.loss_before > 0 else self.loss_after

    @property
    def trains(self) -> bool:
        """Whether the loss fell and stayed finite."""
        return self.finite and self.loss_after < self.loss_before


@dataclass(frozen=True, slots=True)
class Trials:
    """All trials, the best first; the run as it is stands among them."""

    trials: tuple[Trial, ...]

    def __iter__(self) -> Iterator[Trial]:
        """The trials, the best first."""
        return iter(self.trials)

    def __len__(self) -> int:
        """How many."""
        return len(self.trials)

    def __str__(self) -> str:
        """One line a remedy."""
        lines = [f"{'loss':>22}  remedy"]
        for trial in self.trials:
            after = f"{trial.loss_after:.4g}" if trial.finite else "broke"
            lines.append(f"{trial.loss_before:>11.4g} -> {after:>7}  {trial.remedy}")
        return "\n".join(lines) if self.trials else "no optimizer was given, so nothing could be tried"


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to try one remedy."""

    remedy: Remedy
    change: Callable[[Pair], None] | None = None
    before_step: Callable[[nn.Module, int], None] | None = None
    batch: Callable[[Any], Any] | None = None


def try_all(
    model: nn.Module, batch: object, loss_fn: LossFn | None, optimizer: Optimizer, steps: int
) -> Trials:
    """Try every remedy that needs no other architecture."""
    trials = []
    for plan in _plans(optimizer):
        result = _tried(plan, model, batch, loss_fn, optimizer, steps)
        if result is not None and result.losses:
            trials.append(Trial(plan.remedy, result.losses[0], result.losses[-1], result.finite))
    # The loss of a run with changed data or weights begins elsewhere: what counts is where it ends.
    return Trials(tuple(sorted(trials, key=lambda trial: trial.loss_after if trial.finite else math.inf)))


def _tried(
    plan: _Plan, model: nn.Module, batch: object, loss_fn: LossFn | None, optimizer: Optimizer, steps: int
) -> Rehearsal | None:
    with contextlib.suppress(Exception), preserved(model, loss_fn):
        pair = copied(model, optimizer)
        if plan.change is not None:
            plan.change(pair)
        given = copy.copy(batch) if plan.batch is None else plan.batch(batch)
        return rehearse(pair, given, loss_fn, steps, _both(plan.before_step, pair))
    return None


def _both(
    act: Callable[[nn.Module, int], None] | None, pair: Pair
) -> Callable[[nn.Module, int], None] | None:
    if act is not _warm_up:
        return act
    base = [group["lr"] for group in pair[1].param_groups]

    def warm(model: nn.Module, step: int) -> None:
        del model
        for group, lr in zip(pair[1].param_groups, base, strict=True):
            group["lr"] = lr * min(1.0, (step + 1) / WARM_UP)

    return warm


def _plans(optimizer: Optimizer) -> Iterator[_Plan]:
    yield _Plan(Remedy("Leave it as it is"))
    for factor in (10, 100, 1000):
        code = f'optimizer.param_groups[0]["lr"] /= {factor}'
        yield _Plan(Remedy("Lower the learning rate", code), change=_slower(factor))
    yield _Plan(
        Remedy("Raise the learning rate", 'optimizer.param_groups[0]["lr"] *= 10'), change=_slower(0.1)
    )
    schedule = (
        f"torch.optim.lr_scheduler.LinearLR(optimizer, start_factor={1 / WARM_UP}, total_iters={WARM_UP})"
    )
    yield _Plan(Remedy("Warm the rate up", schedule), before_step=_warm_up)
    clip = "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)"
    yield _Plan(Remedy("Clip the gradient", clip), before_step=_clip)
    yield _Plan(
        Remedy("Initialise for ReLU", 'torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")'),
        change=lambda pair: _initialise(pair[0], nn.init.kaiming_normal_),
    )
    yield _Plan(
        Remedy("Make the weights orthogonal", "torch.nn.init.orthogonal_(layer.weight)"),
        change=lambda pair: _initialise(pair[0], nn.init.orthogonal_),
    )
    scale = "inputs = (inputs - inputs.mean(0)) / (inputs.std(0) + 1e-6)"
    yield _Plan(Remedy("Normalise the inputs", scale), batch=_normalised)
    if any("eps" in group for group in optimizer.param_groups):
        yield _Plan(Remedy("Enlarge epsilon", 'optimizer.param_groups[0]["eps"] = 1e-4'), change=_larger_eps)
    yield _Plan(Remedy("Compute in float32", "model.float()"), change=_float32, batch=_as_float32)


def _slower(factor: float) -> Callable[[Pair], None]:
    def change(pair: Pair) -> None:
        for group in pair[1].param_groups:
            group["lr"] = group["lr"] / factor

    return change


def _warm_up(model: nn.Module, step: int) -> None:
    """Stands for the schedule, which needs the optimizer; see `_both`."""
    del model, step


def _clip(model: nn.Module, step: int) -> None:
    del step
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)


def _initialise(model: nn.Module, fill: Callable[[Tensor], Tensor]) -> None:
    for name, param in model.named_parameters():
        if param.dim() > 1 and "embed" not in name:
            fill(param.data)
        elif name.endswith("bias"):
            param.data.zero_()


def _larger_eps(pair: Pair) -> None:
    for group in pair[1].param_groups:
        group["eps"] = 1e-4


def _float32(pair: Pair) -> None:
    pair[0].float()


def _as_float32(batch: Any) -> Any:
    return _mapped(batch, lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)


def _normalised(batch: Any) -> Any:
    def normalise(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or tensor.dim() < 2:
            return tensor
        finite = torch.nan_to_num(tensor, nan=0.0, posinf=0.0, neginf=0.0)
        return (finite - finite.mean(0)) / (finite.std(0) + 1e-6)

    return _mapped(batch, normalise)


def _mapped(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: _mapped(value, change) for key, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return type(batch)(_mapped(value, change) for value in batch)  # type: ignore[call-arg]
    return batch
