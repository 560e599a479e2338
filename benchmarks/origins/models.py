"""Where a fault can sit: ten models around one function.

Each builder returns the model, its batch, the loss function and the qualified name of the module in
which the function runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.origins.faults import Function

ROWS, WIDTH = 4, 6
Built = tuple[nn.Module, Tensor, Callable[[Any], Tensor] | None, str]


class Faulty(nn.Module):
    """The function as a module; recomputed in the backward pass where told to."""

    def __init__(self, function: Function, *, checkpointed: bool = False) -> None:
        super().__init__()
        self.function = function
        self.checkpointed = checkpointed

    def forward(self, h: Tensor) -> Tensor:
        """Apply it."""
        if self.checkpointed:
            return checkpoint(self.function, h, use_reentrant=False)
        return self.function(h)


class _Root(nn.Module):
    def __init__(self, fault: Faulty) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)
        self.run = fault.forward

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.run(self.first(x)))


class _Block(nn.Module):
    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.linear, self.fault = nn.Linear(WIDTH, WIDTH), function

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fault(self.linear(x))


class _Blocks(nn.Module):
    def __init__(self, fault: Faulty) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([_Block(nn.Tanh()), _Block(nn.Tanh()), _Block(fault)])
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class _Cell(nn.Module):
    def __init__(self, fault: Faulty) -> None:
        super().__init__()
        self.inside, self.fault = nn.Linear(2 * WIDTH, WIDTH), fault

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return self.fault(torch.tanh(self.inside(torch.cat([x, state], -1))))


class _Loop(nn.Module):
    def __init__(self, fault: Faulty) -> None:
        super().__init__()
        self.cell, self.head = _Cell(fault), nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros_like(x)
        for _ in range(3):
            state = self.cell(x, state)
        return self.head(state)


class _Attention(nn.Module):
    def __init__(self, fault: Faulty) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.norm, self.fault, self.head = nn.LayerNorm(WIDTH), fault, nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None] + torch.zeros(1, 3, 1)
        x = self.norm(x + self.attend(x, x, x, need_weights=False)[0])
        return self.head(self.fault(x))


class _Named(_Blocks):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"hidden": x, "out": super().forward(x)}


@dataclass
class Output:
    """What some models return."""

    out: Tensor
    hidden: Tensor | None = None


class _Typed(_Blocks):
    def forward(self, x: Tensor) -> Output:  # type: ignore[override]
        return Output(super().forward(x), x)


class _OwnLoss(_Blocks):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square().mean()


def mean_square(output: Tensor) -> Tensor:
    """The loss wherever the fault isn't in it."""
    return output.square().mean()


def _rows() -> Tensor:
    return torch.randn(ROWS, WIDTH)


def _nested(fault: Faulty) -> nn.Module:
    inner = nn.Sequential(nn.Linear(WIDTH, WIDTH), fault)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), inner, nn.Linear(WIDTH, 1))


def _conv(fault: Faulty) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout(0.1),
        fault, nn.Flatten(), nn.Linear(3 * 16, 1),
    )  # fmt: skip


MODELS: dict[str, Callable[[Faulty], Built]] = {
    "root": lambda fault: (_Root(fault), _rows(), mean_square, ""),
    "nested": lambda fault: (_nested(fault), _rows(), mean_square, "1.1"),
    "blocks": lambda fault: (_Blocks(fault), _rows(), mean_square, "blocks.2.fault"),
    "loop": lambda fault: (_Loop(fault), _rows(), mean_square, "cell.fault"),
    "conv": lambda fault: (_conv(fault), torch.randn(ROWS, 1, 4, 4), mean_square, "4"),
    "attention": lambda fault: (_Attention(fault), _rows(), mean_square, "fault"),
    "dict": lambda fault: (_Named(fault), _rows(), lambda o: mean_square(o["out"]), "blocks.2.fault"),
    "dataclass": lambda fault: (_Typed(fault), _rows(), lambda o: mean_square(o.out), "blocks.2.fault"),
    "own loss": lambda fault: (_OwnLoss(fault), _rows(), None, "blocks.2.fault"),
    "shallow": lambda fault: (nn.Sequential(nn.Linear(WIDTH, WIDTH), fault), _rows(), mean_square, "1"),
}
"""Builders by name."""
