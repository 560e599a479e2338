"""Small models, and ways of initialising them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]
_WEIGHTED = (nn.Linear, nn.Conv2d)


class Exp(nn.Module):
    """The exponential as an activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return torch.exp(x)


def mlp(sizes: list[int], activation: Activation = nn.ReLU, last: nn.Module | None = None) -> nn.Sequential:
    """Linear layers with an activation between them."""
    layers: list[nn.Module] = []
    for low, high in pairwise(sizes[:-1]):
        layers += [nn.Linear(low, high), activation()]
    layers.append(nn.Linear(sizes[-2], sizes[-1]))
    return nn.Sequential(*layers, *([last] if last is not None else []))


def deep(
    inputs: int, width: int, depth: int, outputs: int, activation: Activation, last: nn.Module | None = None
) -> nn.Sequential:
    """``depth`` hidden layers of one width."""
    return mlp([inputs, *[width] * depth, outputs], activation, last)


def filled(model: nn.Module, fill: Callable[[Tensor], object]) -> nn.Module:
    """Weights filled by a function, biases 0."""
    for module in model.modules():
        if isinstance(module, _WEIGHTED):
            fill(module.weight.data)
            if module.bias is not None:
                module.bias.data.zero_()
    return model


def he(model: nn.Module) -> nn.Module:
    """He's uniform initialisation, biases 0."""
    return filled(model, lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"))


def small_cnn(activation: Activation = nn.ReLU, hidden: int = 1, channels: int = 3) -> nn.Sequential:
    """Two convolutions and dense layers for 12 x 12 pixels."""
    layers: list[nn.Module] = [
        *(nn.Conv2d(channels, 8, 3), activation(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3), activation(), nn.Flatten()),
        *(nn.Linear(16 * 9, 48), activation()),
    ]
    for _ in range(hidden):
        layers += [nn.Linear(48, 48), activation()]
    return nn.Sequential(*layers, nn.Linear(48, 10))


def plain_cnn(depth: int, *, normalised: bool, width: int = 12) -> nn.Sequential:
    """A stack of 3 x 3 convolutions without shortcuts."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
    for _ in range(depth):
        layers += [nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)]
        layers += [nn.BatchNorm2d(width)] if normalised else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


class Residual(nn.Module):
    """``x + body(norm(x))``."""

    def __init__(self, width: int, *, normalised: bool = False, activation: Activation = nn.ReLU) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if normalised else nn.Identity()
        self.body = nn.Sequential(nn.Linear(width, width), activation(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return x + self.body(self.norm(x))


def residual_net(
    depth: int, *, normalised: bool = False, inputs: int = 64, width: int = 48, outputs: int = 10
) -> nn.Sequential:
    """A stack of residual blocks."""
    blocks = [Residual(width, normalised=normalised) for _ in range(depth)]
    return nn.Sequential(nn.Linear(inputs, width), *blocks, nn.Linear(width, outputs))


class Cell(nn.Module):
    """A recurrence written by hand: ``h = act(input(x_t) + hidden(h))``, read out at the end."""

    def __init__(self, gain: float, activation: Callable[[Tensor], Tensor], width: int = 48) -> None:
        super().__init__()
        self.input, self.hidden = nn.Linear(2, width), nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, 1)
        self.activation = activation
        nn.init.orthogonal_(self.hidden.weight, gain)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        state = x.new_zeros(len(x), self.hidden.in_features)
        for step in range(x.shape[1]):
            state = self.activation(self.input(x[:, step]) + self.hidden(state))
        return self.output(state)


class Recurrent(nn.Module):
    """A module of torch's, read out at the end or all along."""

    def __init__(self, core: nn.RNNBase, outputs: int, letters: int = 0, *, everywhere: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(letters, core.input_size) if letters else nn.Identity()
        self.core = core
        width = core.hidden_size * (2 if core.bidirectional else 1)
        self.head = nn.Linear(width, outputs)
        self.everywhere = everywhere

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        states, _ = self.core(self.embed(x))
        return self.head(states if self.everywhere else states[:, -1])


class Transformer(nn.Module):
    """An encoder over sequences of vectors, read out by its mean."""

    def __init__(
        self, features: int = 8, depth: int = 2, width: int = 32, outputs: int = 4, *, first: bool = True
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=first)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Apply it; ``padding`` is True where nothing stands."""
        return self.head(self.encoder(self.embed(x), src_key_padding_mask=padding).mean(1))


class LanguageModel(nn.Module):
    """A causal transformer over letters."""

    def __init__(self, letters: int = 20, depth: int = 2, width: int = 32, length: int = 24) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(letters, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, letters)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        hidden = self.embed(x) + self.place.weight[: x.shape[1]]
        return self.head(self.norm(self.encoder(hidden, mask=self.mask, is_causal=True)))
