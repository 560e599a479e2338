"""What the demo trains: a real data set, a network, and settings somebody could have had."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Batch: TypeAlias = tuple[Tensor, Tensor]


class Workload(ABC):
    """One training task, the same for each way of training it.

    Attributes:
        key: short name, the beginning of its run files' names.
        title: network and data, for a person.
        setting: what its author chose, and where that comes from.
        unit: what the held-out loss is measured in.
        guess: held-out loss of the best constant prediction; a run that ends above it has learnt
            nothing.
        steps: optimizer steps to train.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    setting: ClassVar[str]
    unit: ClassVar[str]
    guess: float
    steps: int

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The untrained network, drawn from torch's global generator."""

    @abstractmethod
    def build_optimizer(self, model: nn.Module) -> Optimizer:
        """The optimizer its author chose."""

    @abstractmethod
    def batches(self, seed: int) -> Iterator[Batch]:
        """``steps`` batches of inputs and targets, in an order fixed by the seed."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The training loss, 0-d, reduced as its author did."""

    @abstractmethod
    def held_out_loss(self, model: nn.Module) -> float:
        """Mean loss on data that was never trained on, in ``unit``."""

    def accuracy(self, model: nn.Module) -> float | None:
        """Share of held-out examples that are right; None where there is no right or wrong."""
        del model
        return None


def generator(seed: int) -> torch.Generator:
    """A generator of its own, so that no two parts of the demo share random numbers."""
    return torch.Generator().manual_seed(seed)
