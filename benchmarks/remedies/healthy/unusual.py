"""Healthy trainings that look unusual: adversaries, frozen parts, half precision, recomputation.

Shape legend: N rows, T time steps, D features, C classes or channels.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from benchmarks.remedies.data import pictures, prototypes
from benchmarks.remedies.healthy.pictures import convolutions
from benchmarks.remedies.healthy.zoo import adam, healthy, mlp
from benchmarks.remedies.training import Training


@healthy
def gan_discriminator():
    model = mlp(64, 64, 1, act=lambda: nn.LeakyReLU(0.2))
    inputs, _ = prototypes()
    fake = torch.rand(32, 64)

    def loss(out, _):
        return functional.softplus(-out).mean() + functional.softplus(model(fake)).mean()

    return Training(model, inputs, inputs, loss, adam(model, 2e-4, betas=(0.5, 0.999)))


@healthy
def gan_generator():
    judge = mlp(64, 64, 1)
    model = mlp(16, 64, 64, last=nn.Sigmoid())
    return Training(
        model,
        torch.randn(320, 16),
        None,
        lambda out, _: functional.softplus(-judge(out)).mean(),
        adam(model, 2e-4),
    )


@healthy
def wasserstein_critic_negative_loss():
    model = mlp(64, 64, 1)
    inputs, labels = prototypes()
    signs = (2.0 * (labels % 2) - 1)[:, None]
    return Training(
        model, inputs, signs, lambda out, y: -(out * y).mean(), torch.optim.RMSprop(model.parameters(), 5e-5)
    )


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = convolutions(3, 16, 32)
        self.box, self.score = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 1, 1)

    def forward(self, x):
        features = [self.body(x), self.body(functional.avg_pool2d(x, 2))]
        return [(self.box(one).sigmoid(), self.score(one)) for one in features]


@healthy
def detection_like_heads_on_two_levels():
    model = Detector()

    def loss(out, y):
        total = 0
        for box, score in out:
            target = functional.adaptive_avg_pool2d(y, score.shape[-1])
            total = (
                total + functional.binary_cross_entropy_with_logits(score, target) + (box - 0.5).abs().mean()
            )
        return total

    inputs, _ = pictures()
    return Training(model, inputs, inputs.mean(1, keepdim=True), loss, adam(model), rows=16)


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.extra = mlp(64, 64, 32), nn.Linear(32, 10), nn.Linear(32, 3)

    def forward(self, x):
        hidden = self.body(x).relu()
        self.kept = self.extra(hidden)
        return self.head(hidden)


@healthy
def auxiliary_head_unused():
    model = Auxiliary()
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))


@healthy
def frozen_backbone():
    body = mlp(64, 64, 32)
    training = Training(nn.Sequential(body, nn.Linear(32, 10)), *prototypes(), functional.cross_entropy)
    optimizer = adam(training.model)
    for _ in range(30):
        optimizer.zero_grad()
        functional.cross_entropy(training.model(training.inputs), training.targets).backward()
        optimizer.step()
    for param in body.parameters():
        param.requires_grad_(False)
    training.model = nn.Sequential(copy.deepcopy(body), nn.ReLU(), nn.Linear(32, 10))
    training.optimizer = adam(training.model)
    return training


@healthy
def new_head_at_zero():
    model = nn.Sequential(mlp(64, 64, 32), nn.ReLU(), nn.Linear(32, 10))
    nn.init.zeros_(model[2].weight)
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))


class LowRank(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.a, self.b = nn.Linear(64, 4, bias=False), nn.Linear(4, 10, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.inner(x) + self.b(self.a(x))


@healthy
def low_rank_adapter():
    model = LowRank(nn.Linear(64, 10))
    return Training(model, *prototypes(), functional.cross_entropy, adam(model, 1e-2))


@healthy
def warm_up_from_zero():
    model = mlp(64, 64, 10)
    optimizer = adam(model, 1e-3)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 100))
    return Training(model, *prototypes(), functional.cross_entropy, optimizer)


@healthy
def autocast_bfloat16():
    inner = mlp(64, 64, 10)

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.inner(x)

    model = Mixed()
    return Training(
        model, *prototypes(), lambda out, y: functional.cross_entropy(out.float(), y), adam(model)
    )


@healthy
def checkpointed():
    class Recomputed(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts, self.head = nn.ModuleList([mlp(64, 64, 64) for _ in range(3)]), nn.Linear(64, 10)

        def forward(self, x):
            for part in self.parts:
                x = checkpoint(part, x, use_reentrant=False)
            return self.head(x)

    model = Recomputed()
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))
