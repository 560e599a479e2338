"""Loss, parameters and optimizer that aren't connected as they should be."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from benchmarks.faults.case import faulty
from benchmarks.faults.data import digits, drawn
from benchmarks.faults.losses import cross_entropy
from benchmarks.faults.models import mlp
from benchmarks.faults.training import Training, cleared_too_late, uncleared


class _Two(nn.Module):
    """A body and a head, and what stands between them."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)))


class _Detached(_Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)).detach())


class _Without(_Two):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = torch.relu(self.body(x))
        return self.head(hidden)


class _Listed(nn.Module):
    """Layers in a plain list: no parameter of theirs is registered."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(64, 48), nn.Linear(48, 10)
        self.layers = [nn.Linear(48, 48) for _ in range(3)]

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        for layer in self.layers:
            hidden = torch.relu(layer(hidden))
        return self.head(hidden)


@faulty("wiring", "disconnected_parameters", at=0)
def backbone_frozen_by_mistake() -> Training:
    """As in a thread of the PyTorch forum (84911): all but the last weight is frozen, as initialised."""
    model = mlp([64, 64, 64, 10])
    for param in model.parameters():
        param.requires_grad_(requires_grad=False)
    model[-1].weight.requires_grad_(requires_grad=True)
    return Training(model, SGD(model.parameters(), 0.01), drawn(digits()), cross_entropy)


@faulty("wiring", "stale_optimizer", at=0, checked=True)
def optimizer_of_a_copy() -> Training:
    """accelerate#2665."""
    model = mlp([64, 64, 64, 10])
    return Training(model, Adam(copy.deepcopy(model).parameters()), drawn(digits()), cross_entropy)


@faulty("wiring", "stale_optimizer", at=0, place=("head",))
def head_replaced_after_the_optimizer() -> Training:
    model = _Two()
    optimizer = Adam(model.parameters())
    model.head = nn.Linear(64, 10)
    return Training(model, optimizer, drawn(digits()), cross_entropy)


@faulty("wiring", "missing_zero_grad", at=1, steps=150)
def gradients_never_cleared() -> Training:
    model = mlp([64, 64, 64, 10])
    return Training(model, SGD(model.parameters(), 0.1), drawn(digits()), cross_entropy, loop=uncleared)


@faulty("wiring", "missing_zero_grad", at=1, steps=150)
def gradients_never_cleared_under_adam() -> Training:
    model = mlp([64, 64, 64, 10])
    return Training(model, Adam(model.parameters(), 3e-3), drawn(digits()), cross_entropy, loop=uncleared)


@faulty("wiring", "disconnected_loss", at=0)
def gradients_cleared_before_the_step() -> Training:
    model = mlp([64, 64, 64, 10])
    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy, loop=cleared_too_late)


class _Copied(_Two):
    """Calls a copy of itself, as an average of the weights that should only evaluate."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = [mlp([64, 10])]

    def forward(self, x: Tensor) -> Tensor:
        return self.twin[0](x)


@faulty("wiring", "disconnected_loss", at=0)
def loss_of_another_model() -> Training:
    model = _Copied()
    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy)


@faulty("wiring", "disconnected_parameters", at=0, place=("body",))
def detached_in_the_middle() -> Training:
    model = _Detached()
    return Training(model, SGD(model.parameters(), 0.1), drawn(digits()), cross_entropy)


@faulty("wiring", "disconnected_parameters", at=0, place=("body",))
def body_under_no_grad() -> Training:
    model = _Without()
    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy)


@faulty("wiring", "disconnected_parameters", at=0, place=("body",))
def optimizer_given_the_head_alone() -> Training:
    model = _Two()
    return Training(model, Adam(model.head.parameters()), drawn(digits()), cross_entropy)


@faulty("wiring", "disconnected_parameters", at=0)
def layers_in_a_plain_list() -> Training:
    model = _Listed()
    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy)
