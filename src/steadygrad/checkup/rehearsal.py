"""A few training steps on a copy: what would this optimizer do at this rate?"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.calling import LossFn, call_model, exchanged, loss_of, mapped
from steadygrad.checkup.look import eagerly
from steadygrad.preserve import backward_into, preserved

SHIFTS = (1, 3)
"""Places by which rows are moved to be given another's targets; two ways, since one may leave equal rows equal."""

# What a scheduler wraps belongs to the original; the class's own step does for a copy.
_NOT_COPIED = frozenset({"step", "_opt_called"})


@dataclass(slots=True)
class Setup:
    """All that takes part in a training step, free to be changed.

    Attributes:
        model: the model.
        optimizer: its optimizer.
        batch: the batch of the checkup.
        loss_fn: as in `steadygrad.check`.
        feed: what a batch goes through before the model sees it.
        read: what an output goes through before the loss function sees it.
        place: which of the output's tensors that is.
        unit: the loss is divided by it before the backward pass.
        before_step: called with the setup and the number of the step once the gradients are there.
        around: entered for the length of a training.
    """

    model: nn.Module
    optimizer: Optimizer
    batch: object
    loss_fn: LossFn | None
    feed: list[Callable[[Any], Any]] = field(default_factory=list)
    read: list[Callable[[Tensor], Tensor]] = field(default_factory=list)
    place: int = 0
    unit: float = 1.0
    before_step: list[Callable[[Setup, int], None]] = field(default_factory=list)
    around: list[Callable[[Setup], contextlib.AbstractContextManager[Any]]] = field(default_factory=list)

    def fed(self, batch: object) -> Any:
        """The batch as the model sees it."""
        for change in self.feed:
            batch = change(batch)
        return batch

    def loss(self, batch: object, loss_fn: LossFn | None) -> Tensor:
        """The loss of a batch, in its own unit."""
        output = call_model(self.model, self.fed(batch))
        for change in self.read:
            output = exchanged(output, self.place, change)
        return loss_of(output, batch, loss_fn)

    def step(self, batch: object, loss_fn: LossFn | None, number: int) -> float:
        """One training step; the loss before it. Without a finite loss nothing is changed."""
        # Inside of the user's autocast its cache would go on giving the weights of the step before.
        torch.clear_autocast_cache()
        self.optimizer.zero_grad()
        loss = self.loss(batch, loss_fn)
        value = float(loss.detach())
        if not math.isfinite(value) or not loss.requires_grad:
            return value
        backward_into(loss / self.unit, self.model.parameters())
        for act in self.before_step:
            act(self, number)
        if isinstance(self.optimizer, torch.optim.LBFGS):
            self.optimizer.step(lambda: self._again(batch, loss_fn))  # type: ignore[no-untyped-call]
        else:
            self.optimizer.step()
        return value

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Whatever a training runs inside of."""
        with contextlib.ExitStack() as stack:
            for enter in self.around:
                stack.enter_context(enter(self))
            yield

    def _again(self, batch: object, loss_fn: LossFn | None) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.loss(batch, loss_fn)
        backward_into(loss / self.unit, self.model.parameters())
        return loss


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What happened on the copy.

    Attributes:
        losses: before each step, and after the last; cut off at the first non-finite one.
        update_ratio: largest ``|change| / |weights|`` over the weight matrices in the first step.
        moved: whether the first step changed anything.
        reached: names of the parameters that had a gradient in the first step.
    """

    losses: tuple[float, ...]
    update_ratio: float
    moved: bool
    reached: frozenset[str] = frozenset()

    @property
    def finite(self) -> bool:
        """Whether every loss was."""
        return all(map(math.isfinite, self.losses))


def copied(model: nn.Module, optimizer: Optimizer, batch: object, loss_fn: LossFn | None) -> Setup:
    """Model and optimizer copied together, without anybody's hooks.

    Raises:
        Exception: whatever keeps the model from being copied.
    """
    memo: dict[int, Any] = {}
    twin = copy.deepcopy(model, memo)
    other = copy.deepcopy(optimizer, memo)
    # An optimizer copies its groups and state; one that is built around another holds more.
    for name, value in vars(optimizer).items():
        if name not in vars(other) and name not in _NOT_COPIED and "hooks" not in name:
            setattr(other, name, copy.deepcopy(value, memo))
    for hooks in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
        getattr(other, hooks, {}).clear()
    return Setup(twin, other, batch, loss_fn)


def rehearse(setup: Setup, steps: int) -> Rehearsal:
    """Train for a few steps on the setup's own batch.

    Args:
        setup: from `copied`; its model and optimizer are changed.
        steps: how many.
    """
    losses: list[float] = []
    ratio, moved, reached = 0.0, False, set[str]()
    model, batch, loss_fn = setup.model, setup.batch, setup.loss_fn

    def note(_: Setup, number: int) -> None:
        if number == 0:
            reached.update(name for name, one in model.named_parameters() if one.grad is not None)

    setup.before_step.insert(0, note)
    # For the random states and the loss function: the copy may change as it likes.
    with preserved(model, loss_fn), torch.enable_grad(), eagerly(), setup.running():
        for number in range(steps):
            before = [param.detach().clone() for param in model.parameters()] if number == 0 else []
            losses.append(setup.step(batch, loss_fn, number))
            if number == 0:
                ratio, moved = _change(list(model.parameters()), before)
            if not math.isfinite(losses[-1]) or not reached:
                return Rehearsal(tuple(losses), ratio, moved, frozenset(reached))
        torch.clear_autocast_cache()
        with torch.no_grad():
            losses.append(float(setup.loss(batch, loss_fn)))
    return Rehearsal(tuple(losses), ratio, moved, frozenset(reached))


def shake(setup: Setup, steps: int) -> tuple[float, ...]:
    """Go on training, after a rehearsal, on rows that have been given each other's targets.

    A batch that has been learnt has no gradient left, and at any rate the weights stay where they are. Batches
    that contradict what was learnt show whether the training also bears a gradient.

    Args:
        setup: after `rehearse`; its model and optimizer are changed.
        steps: how many on each of two ways of mixing the rows.

    Returns:
        Of each step its loss over the first of its mixture; cut off at the first non-finite one.
    """
    model, batch, loss_fn = setup.model, setup.batch, setup.loss_fn
    grown: list[float] = []
    # For the random states and the loss function: the copy may change as it likes.
    with preserved(model, loss_fn), torch.enable_grad(), eagerly(), setup.running():
        for shift in SHIFTS:
            setup.feed.append(partial(_rolled, shift=shift))
            first = 0.0
            for number in range(steps):
                loss = setup.step(batch, loss_fn, number)
                first = first or loss
                grown.append(loss / first if first else 1.0)
                if not math.isfinite(loss):
                    return tuple(grown)
            setup.feed.pop()
        torch.clear_autocast_cache()
    return tuple(grown)


def _rolled(value: Any, shift: int) -> Any:
    """Every row some places farther on."""
    return mapped(value, lambda one: one.roll(shift, 0) if one.dim() > 0 else one)


def _change(params: list[nn.Parameter], before: list[Tensor]) -> tuple[float, bool]:
    ratio, moved = 0.0, False
    for param, old in zip(params, before, strict=True):
        change = float(torch.linalg.vector_norm((param.detach() - old).double()))
        moved |= change != 0.0
        length = float(torch.linalg.vector_norm(old.double()))
        if param.dim() > 1 and length > 0:
            ratio = max(ratio, change / length)
    return ratio, moved
