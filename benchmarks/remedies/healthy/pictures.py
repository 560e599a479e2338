"""Healthy trainings on pictures.

Shape legend: N rows, T time steps, D features, C classes or channels.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from benchmarks.remedies.data import pictures, prototypes
from benchmarks.remedies.healthy.zoo import adam, healthy, mlp, sgd
from benchmarks.remedies.training import Training


def convolutions(*channels: int, norm: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=not norm)]
        layers += [nn.BatchNorm2d(after)] if norm else []
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


@healthy
def cnn_batchnorm_sgd():
    model = nn.Sequential(
        convolutions(3, 16, 32), nn.MaxPool2d(2), convolutions(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )  # fmt: skip
    return Training(
        model, *pictures(), functional.cross_entropy, sgd(model, 0.05, momentum=0.9, weight_decay=5e-4)
    )


@healthy
def cnn_plain_adam():
    model = nn.Sequential(
        convolutions(3, 16, 16, norm=False), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(256, 10)
    )
    return Training(model, *pictures(), functional.cross_entropy, adam(model))


class Residual(nn.Module):
    def __init__(self, channels, *, zero):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip
        if zero:
            nn.init.zeros_(self.body[-1].weight)

    def forward(self, x):
        return functional.relu(x + self.body(x))


def resnet(blocks, *, zero=False):
    return nn.Sequential(
        convolutions(3, 16), *(Residual(16, zero=zero) for _ in range(blocks)), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip


@healthy
def resnet_deep():
    model = resnet(8)
    return Training(model, *pictures(), functional.cross_entropy, sgd(model, 0.05, momentum=0.9), rows=32)


@healthy
def resnet_zero_init_residual():
    model = resnet(4, zero=True)
    return Training(model, *pictures(), functional.cross_entropy, adam(model), rows=32)


@healthy
def cnn_groupnorm_he():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 144, 10),
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return Training(model, *pictures(), functional.cross_entropy, adam(model), rows=32)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.middle = convolutions(3, 16), convolutions(16, 32)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.out = nn.Sequential(convolutions(32, 16), nn.Conv2d(16, 2, 1))

    def forward(self, x):
        fine = self.down(x)
        coarse = self.up(self.middle(functional.max_pool2d(fine, 2)))
        return self.out(torch.cat([fine, coarse], 1))


@healthy
def unet_segmentation():
    model = UNet()
    inputs, _ = pictures()
    return Training(
        model, inputs, (inputs.mean(1) > 0.5).long(), functional.cross_entropy, adam(model), rows=16
    )


@healthy
def unet_dice():
    model = nn.Sequential(UNet(), nn.Conv2d(2, 1, 1), nn.Sigmoid())
    inputs, _ = pictures()

    def dice(out, y):
        return 1 - 2 * (out * y).sum() / (out.sum() + y.sum() + 1)

    return Training(model, inputs, (inputs.mean(1, keepdim=True) > 0.5).float(), dice, adam(model), rows=16)


@healthy
def autoencoder_sigmoid():
    model = nn.Sequential(mlp(64, 32, 8), nn.ReLU(), mlp(8, 32, 64, last=nn.Sigmoid()))
    inputs, _ = prototypes()
    return Training(model, inputs, inputs, functional.mse_loss, adam(model))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = mlp(64, 64, 16), mlp(8, 64, 64)

    def forward(self, x):
        mean, log_var = self.encoder(x).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        divergence = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1).mean()
        return functional.mse_loss(self.decoder(code), x) * 64 + divergence


@healthy
def vae_returns_its_loss():
    model = VAE()
    return Training(model, prototypes()[0], None, None, adam(model))
