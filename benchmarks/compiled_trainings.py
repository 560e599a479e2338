"""Small trainings that are compiled, checkpointed and accumulate gradients, in every combination.

Used by `benchmarks.compiled`, and by the tests for a part of the combinations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from steadygrad.monitor import Monitor

COMPILED = ("nothing", "model", "model in place", "step", "model and step", "whole step")
ATTACHED = ("before", "after", "in the middle")
CHECKPOINTED = ("no", "non-reentrant", "reentrant")
ACCUMULATED = (1, 4)
FAULTS = ("input", "forward", "backward")
STEPS, ROWS, WIDTH = 4, 4, 6
WARM = 1
POISONED = 2
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    """One combination.

    Attributes:
        compiled: one of `COMPILED`.
        attached: when steadygrad comes: before compiling, after it, or when compiled code has run.
        checkpointed: activation checkpointing of the block that holds the faulty operation.
        micro: micro-batches whose gradients a step adds up.
        backend: of the compiler.
    """

    compiled: str
    attached: str
    checkpointed: str = "no"
    micro: int = 1
    backend: str = "aot_eager"

    def __str__(self) -> str:
        """For a list."""
        return (
            f"{self.compiled} compiled ({self.backend}), attached {self.attached}, checkpoint {self.checkpointed}, "
            f"{self.micro} micro-batches"
        )


class Block(nn.Module):
    """Makes a NaN of a first feature below -2, and of its gradient where the second is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        hidden = torch.tanh(self.inner(x))
        hidden = hidden + torch.log(x[:, :1] + 2.0)
        return hidden + torch.sqrt((hidden * x[:, 1:2]).square().sum(1, keepdim=True))


class Net(nn.Module):
    """Two layers around the block."""

    def __init__(self, checkpointed: str) -> None:
        super().__init__()
        self.first, self.block, self.head = nn.Linear(WIDTH, WIDTH), Block(), nn.Linear(WIDTH, 1)
        self._checkpointed = checkpointed

    def forward(self, x: Tensor) -> Tensor:
        """Run them; what enters the block carries the faults of the batch through unchanged."""
        x = torch.cat([x[:, :2], self.first(x)[:, 2:]], 1)
        if self._checkpointed == "no":
            return self.head(self.block(x))
        return self.head(checkpoint(self.block, x, use_reentrant=self._checkpointed == "reentrant"))


def stream(micro: int, fault: str | None = None) -> list[list[Batch]]:
    """The micro-batches of each step; in one step the last row of the last but one (or only) micro-batch is poisoned."""
    generator = torch.Generator().manual_seed(1)
    steps = [
        [
            (torch.rand(ROWS, WIDTH, generator=generator) + 0.5, torch.randn(ROWS, 1, generator=generator))
            for _ in range(micro)
        ]
        for _ in range(STEPS)
    ]
    if fault is not None:
        row = steps[POISONED][max(0, micro - 2)][0][-1]
        row[:2] = torch.tensor(
            {"input": (math.nan, 1.0), "forward": (-3.0, 1.0), "backward": (1.0, 0.0)}[fault]
        )
    return steps


class Training:
    """One training; ``monitor`` is None where it is plain."""

    def __init__(self, case: Case, attach: Callable[..., Monitor] | None) -> None:
        torch._dynamo.reset()  # noqa: SLF001 - no compiled code of another training
        torch.manual_seed(0)
        self.net = Net(case.checkpointed)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)
        self.monitor: Monitor | None = None
        self._case, self._attach = case, attach
        self._attached("before", self.net)
        self.model = self._model()
        self._advance = self._step()
        self._attached("after", self.model)

    def run(self, steps: list[list[Batch]], before: Callable[[int, Training], None] | None = None) -> None:
        """Train; ``before`` is called between backward and step, both of which are plain then."""
        for number, micro in enumerate(steps):
            if number == WARM:
                self._attached("in the middle", self.model)
            if before is None:
                self._advance(micro)
            else:
                self._backward(micro)
                before(number, self)
                self.optimizer.step()

    def weights(self) -> list[Tensor]:
        """A copy."""
        return [param.detach().clone() for param in self.net.parameters()]

    def _attached(self, when: str, model: nn.Module) -> None:
        if self._attach is not None and self._case.attached == when:
            self.monitor = self._attach(model, self.optimizer)

    def _compile(self, what: Callable[..., object]) -> Callable[..., object]:
        return torch.compile(what, backend=self._case.backend)

    def _model(self) -> nn.Module:
        if self._case.compiled == "model in place":
            self.net.compile(backend=self._case.backend)
        return self._compile(self.net) if self._case.compiled in {"model", "model and step"} else self.net

    def _step(self) -> Callable[[list[Batch]], None]:
        if self._case.compiled == "whole step":
            return self._compile(self._plain_step)
        step = self.optimizer.step
        if self._case.compiled in {"step", "model and step"}:
            step = self._compile(step)

        def advance(micro: list[Batch]) -> None:
            self._backward(micro)
            step()

        return advance

    def _plain_step(self, micro: list[Batch]) -> None:
        self._backward(micro)
        self.optimizer.step()

    def _backward(self, micro: list[Batch]) -> None:
        self.optimizer.zero_grad()
        for x, y in micro:
            given = x.clone().requires_grad_() if self._case.checkpointed == "reentrant" else x
            (nn.functional.mse_loss(self.model(given), y) / len(micro)).backward()
