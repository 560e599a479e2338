"""Small trainings, and their outcome bit by bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer

from steadygrad.monitor import Monitor
from steadygrad.policies import Policy, auto
from steadygrad.recover import Rollback

Batch = tuple[Tensor, Tensor]
Make = Callable[[Iterable[Tensor]], Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "SGD": partial(optim.SGD, lr=0.01),
    "SGD momentum": partial(optim.SGD, lr=0.01, momentum=0.9, weight_decay=1e-2),
    "SGD nesterov": partial(optim.SGD, lr=0.01, momentum=0.9, nesterov=True),
    "SGD fused": partial(optim.SGD, lr=0.01, momentum=0.9, fused=True),
    "Adam": partial(optim.Adam, lr=1e-3),
    "Adam fused": partial(optim.Adam, lr=1e-3, fused=True),
    "AdamW": partial(optim.AdamW, lr=1e-3),
    "AdamW fused": partial(optim.AdamW, lr=1e-3, fused=True),
    "AdamW amsgrad": partial(optim.AdamW, lr=1e-3, amsgrad=True),
    "AdamW amsgrad fused": partial(optim.AdamW, lr=1e-3, amsgrad=True, fused=True),
    "NAdam": partial(optim.NAdam, lr=1e-3),
    "RMSprop": partial(optim.RMSprop, lr=1e-3, momentum=0.5),
    "Adagrad": partial(optim.Adagrad, lr=1e-2),
    "Adagrad fused": partial(optim.Adagrad, lr=1e-2, fused=True),
    "LBFGS": partial(optim.LBFGS, lr=0.1, max_iter=4, history_size=4),
    "LBFGS strong_wolfe": partial(
        optim.LBFGS, lr=0.5, max_iter=4, history_size=4, line_search_fn="strong_wolfe"
    ),
}


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))


class CNN(nn.Module):
    """Convolutions and batch norm, over the six features laid out as an image of 2 x 3."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.BatchNorm2d(4),
        )
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.reshape(-1, 1, 2, 3)).mean((2, 3)))


class LSTM(nn.Module):
    """Reads the six features as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.LSTM(1, 5, batch_first=True)
        self.head = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.unsqueeze(-1))[0][:, -1])


MODELS: dict[str, Callable[[], nn.Module]] = {"MLP": mlp, "CNN": CNN, "LSTM": LSTM}


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make()


def batches(count: int, seed: int = 1) -> list[Batch]:
    """Inputs whose mean is worth learning, never two alike."""
    generator = torch.Generator().manual_seed(seed)
    xs = torch.randn(count, 16, 6, generator=generator)
    return [(x, x.mean(1, keepdim=True) + 1.0) for x in xs]


def poisoned(batch: Batch, value: float = math.nan) -> Batch:
    x = batch[0].clone()
    x[3, 2] = value
    return x, batch[1]


def step(model: nn.Module, optimizer: Optimizer, batch: Batch) -> float:
    """One step of the plain loop; with a closure where the optimizer needs one."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        loss.backward()
        return loss

    if isinstance(optimizer, optim.LBFGS):
        return float(optimizer.step(closure).detach())
    loss = closure()
    optimizer.step()
    return float(loss.detach())


def train(model: nn.Module, optimizer: Optimizer, stream: Iterable[Batch]) -> list[float]:
    return [step(model, optimizer, batch) for batch in stream]


def attach(
    mode: str,
    model: nn.Module,
    optimizer: Optimizer | list[Optimizer] | None = None,
    policy: Policy | None = None,
    *,
    late: bool | None = None,
    max_skips: int | None = 10,
    overhead: float = 0.02,
    run: Any = None,
    recover: Rollback | None = None,
) -> Monitor:
    """`watch` or `guard`, with the accelerator's path forced where ``late`` says so."""
    optimizers = optimizer if isinstance(optimizer, list) else [] if optimizer is None else [optimizer]
    if mode == "guard":
        policy = policy or auto()
    return Monitor(
        mode,
        model,
        optimizers,
        policy,
        run=run,
        max_skips=max_skips,
        overhead=overhead,
        late=late,
        recover=recover,
    )


def bits(value: Any) -> Any:
    """Everything in a nest of containers, tensors by their bytes: equal means equal to the last bit."""
    if isinstance(value, Tensor):
        flat = value.detach().contiguous().reshape(-1)
        return (
            str(value.dtype),
            tuple(value.shape),
            flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"",
        )
    if isinstance(value, dict):
        return {key: bits(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [bits(one) for one in value]
    return value


def outcome(model: nn.Module, optimizer: Optimizer) -> Any:
    """Weights, buffers and optimizer state, to the last bit."""
    return bits(model.state_dict()), bits(optimizer.state_dict())


def weights(model: nn.Module) -> Any:
    return bits(list(model.parameters()))


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def closure_of(model: nn.Module, optimizer: Optimizer, batch: Batch) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return loss

    return closure
