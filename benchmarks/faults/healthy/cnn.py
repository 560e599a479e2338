"""Convolutional networks, with and without normalisation, and their usual tasks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import SGD, Adam, AdamW

from benchmarks.faults.case import healthy
from benchmarks.faults.data import drawn, images
from benchmarks.faults.faulty.vision import backbone, boxes, corners
from benchmarks.faults.losses import cross_entropy, squared
from benchmarks.faults.models import he, plain_cnn, small_cnn
from benchmarks.faults.training import Training

FAMILY = "healthy cnn"
STEPS = 100


@healthy(FAMILY, steps=STEPS)
def plain_by_adam() -> Training:
    model = small_cnn()
    return Training(model, Adam(model.parameters(), 2e-3), drawn(images()), cross_entropy)


@healthy(FAMILY, steps=STEPS)
def plain_by_momentum() -> Training:
    model = he(small_cnn())
    return Training(model, SGD(model.parameters(), 0.02, momentum=0.9), drawn(images()), cross_entropy)


@healthy(FAMILY, steps=STEPS)
def normalised_by_momentum() -> Training:
    model = plain_cnn(6, normalised=True)
    return Training(model, SGD(model.parameters(), 0.05, momentum=0.9), drawn(images()), cross_entropy)


@healthy(FAMILY, steps=60)
def twenty_normalised_layers() -> Training:
    model = plain_cnn(20, normalised=True)
    return Training(model, AdamW(model.parameters(), 3e-3), drawn(images()), cross_entropy)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        conv = [nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2)]
        self.body = nn.Sequential(conv[0], nn.BatchNorm2d(width), nn.ReLU(inplace=True), conv[1])
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(x + self.norm(self.body(x)))


@healthy(FAMILY, steps=STEPS)
def residual() -> Training:
    stem = [nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    model = nn.Sequential(*stem, *(_Block(16) for _ in range(4)), *tail)
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    return Training(model, optimizer, drawn(images()), cross_entropy)


@healthy(FAMILY, steps=STEPS)
def group_norm_and_depthwise() -> Training:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1)]
    for _ in range(3):
        layers += [nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.GroupNorm(4, 16), nn.SiLU()]
        layers += [nn.Conv2d(16, 16, 1)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10))
    return Training(model, AdamW(model.parameters(), 3e-3), drawn(images()), cross_entropy)


@healthy(FAMILY, steps=STEPS)
def raw_pixels_into_batch_norm() -> Training:
    inputs, labels = images()
    model = nn.Sequential(nn.BatchNorm2d(3), *small_cnn())
    return Training(model, Adam(model.parameters(), 1e-3), drawn((inputs * 255, labels)), cross_entropy)


@healthy(FAMILY, steps=STEPS)
def boxes_by_smooth_l1() -> Training:
    model = backbone(4)
    return Training(model, Adam(model.parameters(), 2e-3), drawn(boxes()), F.smooth_l1_loss)


def _overlap_loss(raw: Tensor, target: Tensor) -> Tensor:
    box = corners(raw)
    low, high = torch.maximum(box[:, :2], target[:, :2]), torch.minimum(box[:, 2:], target[:, 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    areas = [(one[:, 2:] - one[:, :2]).clamp(min=0).prod(-1) for one in (box, target)]
    return 1 - (inner / (areas[0] + areas[1] - inner + 1e-7)).mean()


@healthy(FAMILY, steps=STEPS)
def boxes_by_overlap() -> Training:
    model = backbone(4)
    return Training(model, Adam(model.parameters(), 2e-3), drawn(boxes()), _overlap_loss)


@healthy(FAMILY, steps=STEPS)
def segmentation_by_shortcuts() -> Training:
    class Hourglass(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.inner = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)
            self.up, self.head = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            wide = torch.relu(self.down(x))
            narrow = torch.relu(self.inner(wide))
            return self.head(torch.cat([wide, torch.relu(self.up(narrow))], 1))

    model = Hourglass()
    pictures, _ = boxes()
    masks = (pictures.mean(1, keepdim=True) > 0.5).float()
    loss = F.binary_cross_entropy_with_logits
    return Training(model, Adam(model.parameters(), 3e-3), drawn((pictures, masks)), loss)


@healthy(FAMILY, steps=STEPS)
def autoencoder() -> Training:
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()),
        *(nn.ConvTranspose2d(8, 8, 2, 2), nn.ReLU(), nn.ConvTranspose2d(8, 3, 2, 2), nn.Sigmoid()),
    )
    inputs = images()[0]
    return Training(model, Adam(model.parameters(), 3e-3), drawn((inputs, inputs)), squared)


@healthy(FAMILY, steps=STEPS)
def text_by_ctc() -> Training:
    class Columns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 16, (12, 3), padding=(0, 1)), nn.Linear(16, 6)

        def forward(self, x: Tensor) -> Tensor:
            columns = torch.relu(self.conv(x))[:, :, 0].permute(2, 0, 1)
            return self.head(columns).log_softmax(-1)

    model = Columns()

    def loss(out: Tensor, letters: Tensor) -> Tensor:
        columns, size = out.shape[:2]
        return F.ctc_loss(out, letters, torch.full((size,), columns), torch.full((size,), 2))

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn(images())(step)
        return x, torch.stack([y % 5 + 1, (y + 2) % 5 + 1], 1)

    return Training(model, Adam(model.parameters(), 3e-3), batches, loss)
