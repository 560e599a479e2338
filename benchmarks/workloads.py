"""Four trainings that differ in what a monitor costs them: many tensors, few, tiny, large.

Each is a model, an optimizer and a closure that makes one forward and backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

VOCABULARY = 256


@dataclass(frozen=True)
class Training:
    """One model under training.

    Attributes:
        model: the model.
        optimizer: its optimizer.
        backward: makes one forward and backward pass on a fixed batch.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    backward: Callable[[], None]


class Transformer(nn.Module):
    """Six pre-norm encoder layers of width 192: 76 tensors, 2.8 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(192, 6, 768, dropout=0.0, batch_first=True, norm_first=True)
        self.embed = nn.Embedding(VOCABULARY, 192)
        self.layers = nn.TransformerEncoder(layer, 6, norm=nn.LayerNorm(192), enable_nested_tensor=False)
        self.head = nn.Linear(192, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits for each position."""
        logits: Tensor = self.head(self.layers(self.embed(tokens)))
        return logits


class Lstm(nn.Module):
    """Two LSTM layers of width 256: 11 tensors, 1.1 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 128)
        self.layers = nn.LSTM(128, 256, num_layers=2, batch_first=True)
        self.head = nn.Linear(256, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits for each position."""
        logits: Tensor = self.head(self.layers(self.embed(tokens))[0])
        return logits


class DeepMlp(nn.Module):
    """A hundred residual layers of width 64 with LayerNorm: 402 tiny tensors, 0.4 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(64, 64) for _ in range(100))
        self.norms = nn.ModuleList(nn.LayerNorm(64) for _ in range(100))
        self.head = nn.Linear(64, 10)

    def forward(self, features: Tensor) -> Tensor:
        """Logits."""
        for linear, norm in zip(self.linears, self.norms, strict=True):
            features = features + torch.relu(linear(norm(features)))
        logits: Tensor = self.head(features)
        return logits


def make(workload: str, optimizer: str) -> Training:
    """Build one training, the same for every call.

    Args:
        workload: a key of `WORKLOADS`.
        optimizer: a key of `OPTIMIZERS`.
    """
    torch.manual_seed(0)
    model, backward = WORKLOADS[workload]()
    return Training(model, OPTIMIZERS[optimizer](model), backward)


def _token_model(model: nn.Module, batch: int, length: int) -> tuple[nn.Module, Callable[[], None]]:
    # A stream of fresh batches: on one fixed batch the loss would fall to nothing.
    tokens = torch.randint(VOCABULARY, (64, batch, length + 1))
    turn = 0

    def backward() -> None:
        nonlocal turn
        chosen = tokens[turn % len(tokens)]
        turn += 1
        logits = model(chosen[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), chosen[:, 1:].flatten()).backward()

    return model, backward


def _transformer() -> tuple[nn.Module, Callable[[], None]]:
    return _token_model(Transformer(), 8, 64)


def _lstm() -> tuple[nn.Module, Callable[[], None]]:
    return _token_model(Lstm(), 16, 64)


def _deep_mlp() -> tuple[nn.Module, Callable[[], None]]:
    model = DeepMlp()
    features, labels = torch.randn(64, 64, 64), torch.randint(10, (64, 64))
    turn = 0

    def backward() -> None:
        nonlocal turn
        F.cross_entropy(model(features[turn % 64]), labels[turn % 64]).backward()
        turn += 1

    return model, backward


def _large() -> tuple[nn.Module, Callable[[], None]]:
    """200 tensors of a million elements; gradients are handed in, only the step is timed."""
    model = nn.ParameterList(nn.Parameter(torch.randn(1000, 1000) * 0.01) for _ in range(200))
    grads = torch.randn(1000, 1000) * 1e-3

    def backward() -> None:
        for param in model:
            if param.grad is None:
                param.grad = grads.clone()
            else:
                param.grad.copy_(grads)

    return model, backward


WORKLOADS: dict[str, Callable[[], tuple[nn.Module, Callable[[], None]]]] = {
    "transformer": _transformer,
    "lstm": _lstm,
    "deep_mlp": _deep_mlp,
    "large": _large,
}

OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "adamw_fused": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-4),
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9),
}
