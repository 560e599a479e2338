"""Losses that jump about because they should."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import SGD, Adam, AdamW, RMSprop

from benchmarks.faults.case import healthy
from benchmarks.faults.data import blobs, digits, drawn, table, whole
from benchmarks.faults.losses import cross_entropy, squared
from benchmarks.faults.models import mlp
from benchmarks.faults.training import Training, clipped

FAMILY = "healthy noisy"


class _Pair(nn.Module):
    """A generator and who judges it."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.judge = mlp([4, 32, 2]), mlp([2, 32, 1], lambda: nn.LeakyReLU(0.2))

    def forward(self, noise: Tensor) -> Tensor:
        return self.generator(noise)


def _adversarial(training: Training, step: int) -> Tensor:
    model, (one, other) = training.model, training.optimizers
    real, _ = training.batches(step)
    noise = torch.randn(len(real), 4)
    other.zero_grad()
    verdicts = model.judge(real), model.judge(model.generator(noise).detach())
    (F.softplus(-verdicts[0]).mean() + F.softplus(verdicts[1]).mean()).backward()
    other.step()
    one.zero_grad()
    loss = F.softplus(-model.judge(model.generator(noise))).mean()
    loss.backward()
    one.step()
    return loss.detach()


@healthy(FAMILY, steps=200, checked=False)
def adversarial_pair() -> Training:
    model = _Pair()
    optimizers = [
        Adam(model.generator.parameters(), 1e-3, (0.5, 0.9)),
        Adam(model.judge.parameters(), 1e-3, (0.5, 0.9)),
    ]
    return Training(model, optimizers, drawn(blobs()), squared, loop=_adversarial)


def _critic(training: Training, step: int) -> Tensor:
    model, (one, other) = training.model, training.optimizers
    real, _ = training.batches(step)
    fake = model.generator(torch.randn(len(real), 4))
    mixed = torch.lerp(real, fake.detach(), torch.rand(len(real), 1)).requires_grad_()
    slope = torch.autograd.grad(model.judge(mixed).sum(), mixed, create_graph=True)[0]
    penalty = (slope.norm(dim=1) - 1).square().mean()
    other.zero_grad()
    loss = model.judge(fake.detach()).mean() - model.judge(real).mean() + 10 * penalty
    loss.backward()
    other.step()
    if step % 3 == 0:
        one.zero_grad()
        (-model.judge(model.generator(torch.randn(len(real), 4))).mean()).backward()
        one.step()
    return loss.detach()


@healthy(FAMILY, steps=150, checked=False)
def wasserstein_with_penalty() -> Training:
    """A loss that is negative, and that crosses 0."""
    model = _Pair()
    optimizers = [
        Adam(model.generator.parameters(), 1e-3, (0.0, 0.9)),
        Adam(model.judge.parameters(), 1e-3, (0.0, 0.9)),
    ]
    return Training(model, optimizers, drawn(blobs()), squared, loop=_critic)


@healthy(FAMILY, steps=200)
def policy_gradient() -> Training:
    """REINFORCE on a bandit with noisy rewards: the loss has no trend and any sign."""
    model = mlp([2, 32, 5], nn.Tanh)

    def loss(logits: Tensor, state: Tensor) -> Tensor:
        chance = torch.distributions.Categorical(logits=logits)
        action = chance.sample()
        reward = (action == state.long()).float() + torch.randn(len(logits))
        return -(chance.log_prob(action) * (reward - reward.mean())).mean()

    return Training(model, Adam(model.parameters(), 3e-3), drawn(blobs(), 16), loss)


@healthy(FAMILY, steps=200)
def actor_and_critic_with_entropy() -> Training:
    model = mlp([2, 32, 6], nn.Tanh)

    def loss(out: Tensor, state: Tensor) -> Tensor:
        chance, value = torch.distributions.Categorical(logits=out[:, :5]), out[:, 5]
        action = chance.sample()
        reward = (action == state.long()).float() * 5 + torch.randn(len(out))
        gain = (reward - value).detach()
        return (
            -(chance.log_prob(action) * gain).mean()
            + 0.5 * (reward - value).square().mean()
            - 0.01 * chance.entropy().mean()
        )

    return Training(model, RMSprop(model.parameters(), 1e-3), drawn(blobs(), 16), loss, loop=clipped(10.0))


@healthy(FAMILY, steps=200)
def values_with_a_moving_target() -> Training:
    """A target network is copied every 40 steps, and the loss jumps each time."""
    model = mlp([8, 32, 4])
    target = copy.deepcopy(model)

    def loss(out: Tensor, reward: Tensor) -> Tensor:
        with torch.no_grad():
            future = target(torch.randn(len(out), 8)).amax(-1)
        return F.smooth_l1_loss(out[:, 0], reward[:, 0] + 0.9 * future)

    def before(step: int) -> None:
        if step % 40 == 0:
            target.load_state_dict(model.state_dict())

    return Training(model, Adam(model.parameters(), 1e-3), drawn(table()), loss, before)


@healthy(FAMILY)
def labels_half_of_them_wrong() -> Training:
    inputs, labels = digits()
    wrong = torch.where(torch.rand(len(labels)) < 0.5, torch.randint(0, 10, labels.shape), labels)
    model = mlp([64, 64, 10])
    return Training(model, SGD(model.parameters(), 0.1, momentum=0.9), drawn((inputs, wrong)), cross_entropy)


@healthy(FAMILY, steps=200)
def heavy_tailed_targets() -> Training:
    inputs, targets = table()
    heavy = targets + 0.5 * torch.distributions.StudentT(2.5).sample(targets.shape)
    model = mlp([8, 32, 1])
    return Training(model, Adam(model.parameters(), 2e-3), drawn((inputs, heavy), 4), F.smooth_l1_loss)


@healthy(FAMILY, steps=200)
def squared_error_of_heavy_tails() -> Training:
    inputs, targets = table()
    heavy = targets + 0.5 * torch.distributions.StudentT(3.0).sample(targets.shape)
    model = mlp([8, 32, 1])
    return Training(model, SGD(model.parameters(), 5e-3), drawn((inputs, heavy), 8), squared)


@healthy(FAMILY)
def contrastive_pairs() -> Training:
    model = mlp([64, 64, 16])

    def loss(out: Tensor, y: Tensor) -> Tensor:
        unit = F.normalize(out, dim=-1)
        alike = (y[:, None] == y[None, :]).float() - torch.eye(len(y))
        near = (unit @ unit.T / 0.2).masked_fill(torch.eye(len(y), dtype=torch.bool), -torch.inf)
        return -(
            near.log_softmax(-1).masked_fill(alike == 0, 0.0).sum(-1) / alike.sum(-1).clamp(min=1)
        ).mean()

    return Training(model, Adam(model.parameters(), 1e-3), drawn(digits()), loss)


@healthy(FAMILY, steps=200)
def denoising_at_random_levels() -> Training:
    model = mlp([3, 48, 48, 2], nn.SiLU)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, _ = drawn(blobs(), 64)(step)
        draw = torch.Generator().manual_seed(step)
        level, noise = torch.rand(64, 1, generator=draw), torch.randn(64, 2, generator=draw)
        return torch.cat([(1 - level).sqrt() * x + level.sqrt() * noise, level], 1), noise

    return Training(model, AdamW(model.parameters(), 2e-3), batches, squared)


@healthy(FAMILY, steps=200)
def task_that_changes_halfway() -> Training:
    inputs, labels = digits()
    model = mlp([64, 64, 10])

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn((inputs, labels))(step)
        return x, y if step < 100 else (y + 3) % 10

    return Training(model, SGD(model.parameters(), 0.05, momentum=0.9), batches, cross_entropy)


def _two_layers(lr: float, gain: float) -> Training:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(64, 10, generator=generator)
    pair = x, x[:, :1] * 0.5
    model = nn.Sequential(nn.Linear(10, 100, bias=False), nn.Linear(100, 1, bias=False))
    for param in model.parameters():
        param.data.copy_(torch.randn(param.shape, generator=generator) / param.shape[1] ** 0.5 * gain)
    return Training(model, SGD(model.parameters(), lr), whole(pair), squared)


@healthy(FAMILY, steps=200)
def catapult() -> Training:
    """Beyond the edge of stability at first: the loss rises fivefold and falls to a flatter place.

    Lewkowycz et al. 2020, arXiv:2003.02218, section 2.
    """
    return _two_layers(0.06, 1.0)


@healthy(FAMILY, steps=200)
def catapult_from_larger_weights() -> Training:
    return _two_layers(0.03, 1.4)


@healthy(FAMILY, steps=200)
def spike_at_the_start_that_decays() -> Training:
    """Adam without warm-up overshoots for a few steps and comes back."""
    model = mlp([64, 128, 128, 10])
    return Training(model, Adam(model.parameters(), 1e-2), drawn(digits()), cross_entropy)


@healthy(FAMILY, steps=200)
def two_examples_a_step() -> Training:
    model = mlp([64, 64, 10])
    return Training(model, SGD(model.parameters(), 0.02), drawn(digits(), 2), cross_entropy)


@healthy(FAMILY, steps=200)
def rare_class() -> Training:
    """One example in fifty belongs to a class whose loss counts tenfold."""
    inputs, labels = digits()
    weights = torch.ones(10)
    weights[9] = 10.0
    rare = torch.where((labels == 9) & (torch.rand(len(labels)) < 0.8), 0, labels)
    model = mlp([64, 64, 10])
    batches = drawn((inputs, rare), 16)
    return Training(
        model, Adam(model.parameters(), 2e-3), batches, lambda out, y: F.cross_entropy(out, y, weights)
    )
