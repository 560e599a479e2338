"""Sound trainings of networks, data and optimizers that no other family has; written before anything was tuned."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.nn.utils import parametrizations
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, Rprop

from benchmarks.faults.case import healthy
from benchmarks.faults.data import drawn, whole
from benchmarks.faults.fresh_models import (
    AttentionPool,
    BagOfWords,
    Forecaster,
    GraphNet,
    GroupNormNet,
    Lion,
    Mixer,
    Variational,
    bags,
    contrast,
    elbo,
    handwriting,
    inverse,
    mixture_loss,
    notes,
    patients,
    seasons,
    tumours,
    two_views,
    wines,
)
from benchmarks.faults.losses import cross_entropy, squared
from benchmarks.faults.models import mlp
from benchmarks.faults.training import Training

FAMILY = "healthy fresh"


@healthy(FAMILY)
def group_norm_by_momentum_and_cosine() -> Training:
    model = GroupNormNet()
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)

    def before(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / 151))

    return Training(model, optimizer, drawn(handwriting()), cross_entropy, before)


@healthy(FAMILY)
def forecast_of_a_season() -> Training:
    model = Forecaster()
    return Training(model, AdamW(model.parameters(), 5e-3), drawn(seasons()), squared)


@healthy(FAMILY)
def bag_of_words_by_sparse_gradients() -> Training:
    model = BagOfWords(sparse=True)
    return Training(model, Adagrad(model.parameters(), 0.05), drawn(notes()), cross_entropy)


@healthy(FAMILY)
def autoencoder_of_real_digits() -> Training:
    x, _ = handwriting()
    model = mlp([64, 48, 8, 48, 64], nn.ELU)
    batches = drawn((x.flatten(1), x.flatten(1)))
    return Training(model, RAdam(model.parameters(), 2e-3), batches, F.binary_cross_entropy_with_logits)


@healthy(FAMILY)
def views_in_contrast() -> Training:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16))

    def loss(out: Tensor, _: Tensor) -> Tensor:
        one, other = F.normalize(out, dim=1).chunk(2)
        return contrast(one, other)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn(handwriting())(step)
        return torch.cat(two_views(x, step)), y

    return Training(model, Adam(model.parameters(), 2e-3), batches, loss)


@healthy(FAMILY)
def attention_over_sets() -> Training:
    model = AttentionPool()
    return Training(model, RMSprop(model.parameters(), 2e-3), drawn(bags()), cross_entropy)


class _Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = mlp([4, 24, 2], nn.SiLU)
        layers = (parametrizations.spectral_norm(nn.Linear(a, b)) for a, b in ((2, 24), (24, 24), (24, 1)))
        first, second, third = layers
        self.judge = nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2), third)

    def forward(self, noise: Tensor) -> Tensor:
        return self.judge(self.generator(noise))


def _hinges(training: Training, step: int) -> Tensor:
    model, (one, other) = training.model, training.optimizers
    real, _ = training.batches(step)
    other.zero_grad()
    fake = model.generator(torch.randn(len(real), 4)).detach()
    (F.relu(1 - model.judge(real)).mean() + F.relu(1 + model.judge(fake)).mean()).backward()
    other.step()
    one.zero_grad()
    loss = -model(torch.randn(len(real), 4)).mean()
    loss.backward()
    one.step()
    return loss.detach()


@healthy(FAMILY, checked=False)
def hinges_under_spectral_norm() -> Training:
    model = _Pair()
    optimizers = [
        Adam(model.generator.parameters(), 5e-4, (0.0, 0.9)),
        Adam(model.judge.parameters(), 2e-3, (0.0, 0.9)),
    ]
    x, y = inverse()
    return Training(model, optimizers, drawn((torch.cat([x, y], 1), y)), squared, loop=_hinges)


class _TwoTasks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 32), nn.ELU())
        self.kind, self.amount = nn.Linear(32, 3), nn.Linear(32, 1)
        self.weights = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.body(x)
        return self.kind(h), self.amount(h), self.weights


@healthy(FAMILY)
def two_tasks_weighted_by_their_uncertainty() -> Training:
    """Kendall et al. 2018, arXiv:1705.07115; the loss becomes negative."""
    model = _TwoTasks()
    inputs, labels = wines()

    def loss(out: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
        kind, amount, weights = out
        losses = cross_entropy(kind, targets[:, 0].long()), squared(amount, targets[:, 1:])
        return (torch.stack(losses) * torch.exp(-weights) + weights / 2).sum()

    pair = inputs[:, :12], torch.cat([labels[:, None].float(), inputs[:, 12:]], 1)
    return Training(model, AdamW(model.parameters(), 5e-3), drawn(pair), loss)


@healthy(FAMILY, steps=200)
def density_of_a_mixture() -> Training:
    model = mlp([1, 24, 9], nn.Tanh)
    return Training(model, Adam(model.parameters(), 1e-2), drawn(inverse(), 64), mixture_loss)


@healthy(FAMILY)
def triplets_with_a_margin() -> Training:
    """Soon most triplets cost nothing, and steps have no gradient at all."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.SELU(), nn.Linear(32, 8))

    def loss(out: Tensor, _: Tensor) -> Tensor:
        return F.triplet_margin_loss(*out.chunk(3), margin=0.5)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = handwriting()
        generator = torch.Generator().manual_seed(step)
        rows = torch.randperm(len(x), generator=generator)[:24]
        same = torch.stack([(y == y[row]).nonzero()[(step + row) % 100, 0] for row in rows])
        other = torch.stack([(y != y[row]).nonzero()[(step + row) % 1000, 0] for row in rows])
        return torch.cat([x[rows], x[same], x[other]]), y[rows]

    return Training(model, SGD(model.parameters(), 0.05, momentum=0.9), batches, loss)


@healthy(FAMILY)
def mixer_by_nadam() -> Training:
    model = Mixer()
    return Training(model, NAdam(model.parameters(), 2e-3), drawn(handwriting()), cross_entropy)


@healthy(FAMILY)
def group_norm_by_lion() -> Training:
    model = GroupNormNet()
    return Training(model, Lion(model.parameters(), 1e-3), drawn(handwriting()), cross_entropy)


@healthy(FAMILY)
def code_of_real_digits() -> Training:
    x, _ = handwriting()
    model = Variational()
    return Training(model, Adamax(model.parameters(), 5e-3), drawn((x, x)), elbo)


@healthy(FAMILY, steps=100)
def messages_averaged_over_neighbours() -> Training:
    model = GraphNet()
    return Training(model, Adam(model.parameters(), 1e-2), whole(tumours()), cross_entropy)


@healthy(FAMILY)
def student_and_teacher() -> Training:
    model = mlp([64, 48, 10], nn.SiLU)
    x, y = handwriting()
    taught = F.one_hot(y, 10) * 0.9 + 0.01

    def loss(out: Tensor, teacher: Tensor) -> Tensor:
        return F.kl_div(out.log_softmax(1), teacher, reduction="batchmean")

    return Training(
        model, SGD(model.parameters(), 0.1, nesterov=True, momentum=0.9), drawn((x.flatten(1), taught)), loss
    )


class _Causal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            parametrizations.weight_norm(nn.Conv1d(1 if i == 0 else 12, 12, 3, dilation=2**i))
            for i in range(3)
        )
        self.head = nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = F.silu(layer(F.pad(x, (2 * 2**i, 0))))
        return self.head(x[..., -1])


@healthy(FAMILY)
def dilated_convolutions_under_weight_norm() -> Training:
    model = _Causal()
    x, y = seasons()
    return Training(model, Adam(model.parameters(), 3e-3), drawn((x.transpose(1, 2), y)), squared)


class _Relaxed(nn.Module):
    """One block applied twelve times, as a residual flow of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.block, self.leave = nn.Linear(30, 24), mlp([24, 32, 24], nn.Tanh), nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        for _ in range(12):
            h = h + self.block(h) / 12
        return self.leave(h)


@healthy(FAMILY)
def flow_with_shared_weights() -> Training:
    model = _Relaxed()
    return Training(model, Adam(model.parameters(), 3e-3), drawn(tumours()), cross_entropy)


@healthy(FAMILY)
def quantiles_of_patients() -> Training:
    model = mlp([10, 32, 3], nn.SELU)
    levels = torch.tensor([0.1, 0.5, 0.9])

    def loss(out: Tensor, target: Tensor) -> Tensor:
        over = target - out
        return torch.maximum(levels * over, (levels - 1) * over).mean()

    return Training(model, Adadelta(model.parameters(), 1.0), drawn(patients()), loss)


@healthy(FAMILY, steps=80)
def resilient_propagation_on_everything() -> Training:
    model = mlp([13, 16, 3], nn.Tanh)
    return Training(model, Rprop(model.parameters(), 1e-3), whole(wines()), cross_entropy)


@healthy(FAMILY)
def target_that_follows_slowly() -> Training:
    """Two views, one of them through a slow copy (as in BYOL); the copy isn't the optimizer's."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))
    slow = copy.deepcopy(model).requires_grad_(requires_grad=False)

    def before(_: int) -> None:
        with torch.no_grad():
            for param, other in zip(slow.parameters(), model.parameters(), strict=True):
                param.lerp_(other, 0.01)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, _ = drawn(handwriting())(step)
        one, other = two_views(x, step)
        return one, other

    def loss(out: Tensor, other: Tensor) -> Tensor:
        return 2 - 2 * F.cosine_similarity(out, slow(other)).mean()

    return Training(model, SGD(model.parameters(), 0.05, momentum=0.9), batches, loss, before)
