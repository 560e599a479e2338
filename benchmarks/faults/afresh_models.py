"""Networks and losses of the families written last, which share none of the others'.

Shape legend: N rows, P points of a cloud, T time steps, C channels, V nodes, D features, W words or letters.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from benchmarks.faults.afresh_data import community


class PointNet(nn.Module):
    """One network for every point, and the largest of each feature (Qi et al. 2017, arXiv:1612.00593)."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.point = nn.Sequential(
            nn.Conv1d(3, width, 1), nn.ReLU(), nn.Conv1d(width, width, 1), nn.ReLU(), nn.Conv1d(width, 64, 1)
        )
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, points: Tensor) -> Tensor:
        """Apply it to ``[N, P, 3]``."""
        return self.head(self.point(points.transpose(1, 2)).amax(-1))


def brain_net() -> nn.Sequential:
    """Filters over time, then over sensors, without a norm."""
    return nn.Sequential(
        *(nn.Conv1d(4, 12, 9, padding=4), nn.ELU(), nn.AvgPool1d(2)),
        *(nn.Conv1d(12, 16, 9, padding=4), nn.ELU(), nn.AvgPool1d(4)),
        *(nn.Flatten(), nn.Linear(16 * 12, 3)),
    )


def squeeze(last: nn.Module) -> nn.Sequential:
    """A convolutional autoencoder for 16 x 16 pictures."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, 2, 1), nn.ELU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ELU(), nn.Flatten()),
        *(nn.Linear(256, 24), nn.Linear(24, 256), nn.ELU(), nn.Unflatten(1, (16, 4, 4))),
        *(nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ELU(), nn.ConvTranspose2d(8, 1, 4, 2, 1), last),
    )


class UNet(nn.Module):
    """Down, down, up, up, with what was seen on the way down handed across (Ronneberger et al. 2015)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.enter, self.first = _twice(1, width), _twice(width, 2 * width)
        self.deep = _twice(2 * width, 2 * width)
        self.second, self.leave = _twice(4 * width, width), _twice(2 * width, width)
        self.mask = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """A logit for each pixel."""
        one = self.enter(x)
        two = self.first(F.max_pool2d(one, 2))
        deep = self.deep(F.max_pool2d(two, 2))
        up = self.second(torch.cat([two, F.interpolate(deep, scale_factor=2.0)], 1))
        return self.mask(self.leave(torch.cat([one, F.interpolate(up, scale_factor=2.0)], 1)))


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU()),
    )


class Translator(nn.Module):
    """A GRU that reads, cells in a loop that write, and attention between them (Luong et al. 2015)."""

    def __init__(self, words: int = 12, width: int = 32) -> None:
        super().__init__()
        self.read, self.written = nn.Embedding(words, width), nn.Embedding(words + 1, width)
        self.encoder, self.cell = nn.GRU(width, width, batch_first=True), nn.GRUCell(width, width)
        self.say = nn.Linear(2 * width, words)

    def forward(self, phrase: Tensor, answer: Tensor) -> Tensor:
        """Told what came before, say the next word, ``[N, T, W]``."""
        states, last = self.encoder(self.read(phrase))
        hidden, said = last[0], []
        before = F.pad(answer[:, :-1] + 1, (1, 0))
        for place in range(answer.shape[1]):
            hidden = self.cell(self.written(before[:, place]), hidden)
            scores = (states @ hidden[..., None])[..., 0] / math.sqrt(hidden.shape[1])
            seen = (scores.softmax(1)[..., None] * states).sum(1)
            said.append(self.say(torch.cat([hidden, seen], 1)))
        return torch.stack(said, 1)


class GraphAttention(nn.Module):
    """Attention among neighbours (Velickovic et al. 2018, arXiv:1710.10903), one head, ``depth`` layers."""

    def __init__(self, depth: int = 4, width: int = 24) -> None:
        super().__init__()
        self.register_buffer("known", community()[2])
        sizes = [12] + [width] * depth
        self.values = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.asks = nn.ModuleList(nn.Linear(width, 1) for _ in range(depth))
        self.offers = nn.ModuleList(nn.Linear(width, 1) for _ in range(depth))
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to all nodes ``[V, D]``."""
        for value, ask, offer in zip(self.values, self.asks, self.offers, strict=True):
            x = value(x)
            scores = F.leaky_relu(ask(x) + offer(x).T, 0.2).masked_fill(~self.known, -math.inf)
            x = F.elu(scores.softmax(1) @ x)
        return self.head(x)


class TextNet(nn.Module):
    """Filters of three widths over words, and the largest answer of each (Kim 2014, arXiv:1408.5882)."""

    def __init__(self, words: int = 200, width: int = 16) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(words, width), nn.Linear(3 * width, 3)
        self.filters = nn.ModuleList(nn.Conv1d(width, width, size) for size in (2, 3, 4))

    def forward(self, text: Tensor) -> Tensor:
        """Apply it."""
        x = self.embed(text).transpose(1, 2)
        return self.head(torch.cat([torch.relu(one(x)).amax(-1) for one in self.filters], 1))


class VisionTransformer(nn.Module):
    """Patches of 4 x 4 as words, a token that asks, and two blocks (Dosovitskiy et al. 2021)."""

    def __init__(self, width: int = 32, outputs: int = 3) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, 4)
        self.ask = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.place = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, F.gelu, batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to ``[N, 1, 16, 16]``."""
        patches = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.ask.expand(len(x), -1, -1), patches], 1) + self.place
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


class Sines(nn.Module):
    """A picture as a function of where one looks, of sines (Sitzmann et al. 2020, arXiv:2006.09661).

    ``started`` as in section 3.2; without it the weights are those of any linear layer.
    """

    def __init__(self, *, started: bool, depth: int = 4, width: int = 48, frequency: float = 30.0) -> None:
        super().__init__()
        self.frequency, self.head = frequency, nn.Linear(width, 1)
        sizes = [2] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        if started:
            bound = math.sqrt(6 / width) / frequency
            nn.init.uniform_(self.layers[0].weight, -0.2, 0.2)
            for layer in [*self.layers[1:], self.head]:
                nn.init.uniform_(layer.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        for layer in self.layers:
            x = torch.sin(self.frequency * layer(x))
        return self.head(x)


class Factors(nn.Module):
    """Who likes what: a product of two embeddings and two biases (Koren et al. 2009)."""

    def __init__(self, width: int = 32, *, sparse: bool = False) -> None:
        super().__init__()
        self.person, self.film = (
            nn.Embedding(60, width, sparse=sparse),
            nn.Embedding(50, width, sparse=sparse),
        )
        self.lenient, self.good = nn.Embedding(60, 1, sparse=sparse), nn.Embedding(50, 1, sparse=sparse)

    def forward(self, pair: Tensor) -> Tensor:
        """A rating for each pair ``[N, 2]``."""
        who, what = pair.unbind(1)
        biases = self.lenient(who) + self.good(what)
        return (self.person(who) * self.film(what)).sum(1) + biases[:, 0]


class Listener(nn.Module):
    """A convolution over time, an LSTM in both directions, letters for each column."""

    def __init__(self, width: int = 24, letters: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv1d(12, width, 3, padding=1)
        self.core = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, letters + 1)

    def forward(self, spectra: Tensor) -> Tensor:
        """Log-probabilities, ``[N, T, W]``."""
        x = torch.relu(self.conv(spectra.transpose(1, 2))).transpose(1, 2)
        return self.head(self.core(x)[0]).log_softmax(-1)


class Integrated(nn.Module):
    """A differential equation by Euler's method: one network for its slope, ``steps`` of length ``stride``."""

    def __init__(self, steps: int, stride: float, width: int = 24) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(2, width), nn.Linear(width, 2)
        self.slope = nn.Sequential(nn.Linear(width, 48), nn.SiLU(), nn.Linear(48, width))
        self.steps, self.stride = steps, stride

    def forward(self, x: Tensor) -> Tensor:
        """Where it ends."""
        x = self.enter(x)
        for _ in range(self.steps):
            x = x + self.stride * self.slope(x)
        return self.leave(x)


class PictureCode(nn.Module):
    """A variational autoencoder of transposed convolutions; returns reconstruction, mean and log-variance."""

    def __init__(self, code: int = 8) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.SiLU(), nn.Flatten()),
            nn.Linear(256, 2 * code),
        )
        self.decode = nn.Sequential(
            *(nn.Linear(code, 256), nn.SiLU(), nn.Unflatten(1, (16, 4, 4))),
            *(nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1)),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply it."""
        mean, log_var = self.encode(x).chunk(2, 1)
        return self.decode(mean + torch.randn_like(mean) * torch.exp(log_var / 2)), mean, log_var


class Signed(nn.Linear):
    """Weights of which only the sign counts; beyond 1 they get no gradient (Courbariaux et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it, straight through the sign."""
        near = self.weight.clamp(-1, 1)
        signs = near + (torch.where(near >= 0, 1.0, -1.0) - near).detach()
        return F.linear(x, signs / math.sqrt(self.in_features), self.bias)


def partial_likelihood(risk: Tensor, seen: Tensor) -> Tensor:
    """Who of those still there had the event (Cox 1972), ``risk [N, 1]``, ``seen [N, 2]``; ties as they come."""
    time, event = seen.unbind(1)
    order = time.argsort(descending=True)
    one, happened = risk[order, 0], event[order]
    return ((torch.logcumsumexp(one, 0) - one) * happened).sum() / happened.sum().clamp(min=1)


def partial_likelihood_by_hand(risk: Tensor, seen: Tensor) -> Tensor:
    """The same as its formula stands in the books."""
    time, event = seen.unbind(1)
    order = time.argsort(descending=True)
    one, happened = risk[order, 0], event[order]
    return -((one - torch.log(torch.cumsum(torch.exp(one), 0))) * happened).sum() / happened.sum().clamp(
        min=1
    )


def in_order(scores: Tensor, worth: Tensor) -> Tensor:
    """RankNet: of two in a list the better one should score higher (Burges et al. 2005), ``[N, 8, 1]`` and ``[N, 8]``."""
    better = worth[:, :, None] > worth[:, None]
    ahead = scores - scores.transpose(1, 2)
    return F.softplus(-ahead)[better].mean()


def spelled(out: Tensor, letters: Tensor) -> Tensor:
    """CTC over ``[N, T, W]``."""
    rows, columns = out.shape[:2]
    return F.ctc_loss(
        out.transpose(0, 1), letters, torch.full((rows,), columns), torch.full((rows,), letters.shape[1])
    )


def spelled_in_all(out: Tensor, letters: Tensor) -> Tensor:
    """The same, summed over the batch."""
    rows, columns = out.shape[:2]
    sizes = torch.full((rows,), columns), torch.full((rows,), letters.shape[1])
    return F.ctc_loss(out.transpose(0, 1), letters, *sizes, reduction="sum")


def picture_elbo(out: tuple[Tensor, Tensor, Tensor], x: Tensor, weight: float = 0.1) -> Tensor:
    """Squared error over each picture, and divergence from a unit Gaussian."""
    made, mean, log_var = out
    divergence = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1).mean()
    return (made - x).square().sum((1, 2, 3)).mean() + weight * divergence
