"""Small vision models: boxes, masks, keypoints, text in pictures.

Shape legend: N pictures, C channels, T columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import SGD, Adam

from benchmarks.faults.case import faulty
from benchmarks.faults.data import drawn, images
from benchmarks.faults.losses import cross_entropy, squared
from benchmarks.faults.models import Residual, filled
from benchmarks.faults.training import Training


def backbone(outputs: int) -> nn.Sequential:
    """Two strided convolutions and a dense layer."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16 * 9, outputs)),
    )


def boxes() -> tuple[Tensor, Tensor]:
    """A bright rectangle in each picture and its corners in [0, 1], ``[N, 4]``."""
    generator = torch.Generator().manual_seed(8)
    low = torch.randint(0, 6, (384, 2), generator=generator)
    high = low + torch.randint(3, 7, (384, 2), generator=generator)
    pictures = 0.2 * torch.rand(384, 3, 12, 12, generator=generator)
    for picture, (x0, y0), (x1, y1) in zip(pictures, low.tolist(), high.tolist(), strict=True):
        picture[:, y0:y1, x0:x1] += 0.8
    return pictures, torch.cat([low, high.clamp(max=12)], 1) / 12


def _overlap(box: Tensor, target: Tensor) -> Tensor:
    low, high = torch.maximum(box[:, :2], target[:, :2]), torch.minimum(box[:, 2:], target[:, 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    areas = [(one[:, 2:] - one[:, :2]).clamp(min=0).prod(-1) for one in (box, target)]
    return inner / (areas[0] + areas[1] - inner)


def corners(raw: Tensor) -> Tensor:
    """Predicted corners from a center and a size."""
    center, size = raw[:, :2].sigmoid(), raw[:, 2:].sigmoid()
    return torch.cat([center - size / 2, center + size / 2], 1)


@faulty("vision", "nonfinite_loss", at=20, nonfinite=True)
def overlap_of_empty_boxes() -> Training:
    """0 / 0 where a box was cropped away: its anchor has no size, and so has what is decoded from it."""
    model = backbone(4)

    def loss(raw: Tensor, target: Tensor) -> Tensor:
        center, size = (target[:, :2] + target[:, 2:]) / 2, target[:, 2:] - target[:, :2]
        center = center + raw[:, :2].tanh() * size
        size = size * torch.exp(raw[:, 2:] - 0.5)
        box = torch.cat([center - size / 2, center + size / 2], 1)
        return 1 - _overlap(box, target).mean()

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn(boxes())(step)
        return (x, torch.cat([y[:1, :2].repeat(1, 2), y[1:]])) if step == 20 else (x, y)

    return Training(model, Adam(model.parameters()), batches, loss)


@faulty("vision", "nonfinite_loss", "nonfinite_gradient", at=25, nonfinite=True)
def aspect_of_a_flat_box() -> Training:
    """The aspect term of complete IoU: atan(w / h) with both 0."""
    model = backbone(4)

    def loss(raw: Tensor, target: Tensor) -> Tensor:
        box = corners(raw)
        angles = [torch.atan((b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1])) for b in (box, target)]
        return F.smooth_l1_loss(box, target) + (angles[0] - angles[1]).square().mean()

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn(boxes())(step)
        return (x, torch.cat([y[:1, :2].repeat(1, 2), y[1:]])) if step == 25 else (x, y)

    return Training(model, Adam(model.parameters()), batches, loss)


@faulty("vision", "nonfinite_gradient", at=18, nonfinite=True)
def angle_of_a_point_at_the_origin() -> Training:
    """Length and angle of an offset that is exactly 0: the root has no slope there."""
    model = backbone(2)

    def loss(raw: Tensor, target: Tensor) -> Tensor:
        offset = raw.tanh() * target[:, 2:]
        length = (offset**2).sum(-1).sqrt()
        angle = torch.atan2(offset[:, 1], offset[:, 0] + 1e-6)
        return (length - 0.5).square().mean() + 0.1 * angle.square().mean()

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn(boxes())(step)
        return (x, torch.cat([y[:1] * 0, y[1:]])) if step == 18 else (x, y)

    return Training(model, Adam(model.parameters()), batches, loss)


@faulty("vision", "nonfinite_loss", at=30, nonfinite=True)
def picture_without_boxes() -> Training:
    """Mean over no boxes."""
    model = backbone(4)

    def loss(raw: Tensor, target: Tensor) -> Tensor:
        kept = target.abs().sum(-1) > 0
        return F.smooth_l1_loss(corners(raw)[kept], target[kept])

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn(boxes())(step)
        return x, y * (step != 30)

    return Training(model, Adam(model.parameters()), batches, loss)


@faulty(
    "vision",
    "nonfinite_activation",
    "nonfinite_loss",
    "exploding_gradient",
    "learning_rate_too_high",
    "oversized_update",
    "divergence",
    at=0,
    sudden=True,
    curable=True,
)
def sizes_by_exponential() -> Training:
    """The decoding of YOLO v2 and v3, at a rate that lets the exponent run away."""
    model = backbone(4)

    def loss(raw: Tensor, target: Tensor) -> Tensor:
        size = torch.exp(raw[:, 2:])
        return squared(raw[:, :2], target[:, :2]) + squared(size, target[:, 2:] * 12)

    return Training(model, SGD(model.parameters(), 0.5, momentum=0.9), drawn(boxes()), loss)


@faulty(
    "vision",
    "exploding_gradient",
    "learning_rate_too_high",
    "divergence",
    "oversized_update",
    at=0,
    sudden=True,
    curable=True,
)
def boxes_in_pixels() -> Training:
    """Corners from 0 to 640 and a squared error."""
    model = backbone(4)
    pictures, targets = boxes()
    return Training(
        model, SGD(model.parameters(), 0.05, momentum=0.9), drawn((pictures, targets * 640)), squared
    )


@faulty("vision", "nonfinite_gradient", "nonfinite_loss", at=12, nonfinite=True)
def focal_loss_of_a_certain_pixel() -> Training:
    """``p ** gamma * log(p)`` where p has underflowed to 0."""
    model = backbone(10)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        p = out.softmax(-1).gather(1, y[:, None])
        return -((1 - p) ** 2 * torch.log(p)).mean()

    def batches(step: int) -> tuple[Tensor, Tensor]:
        return drawn(images())(step)

    def before(step: int) -> None:
        if step == 12:
            model[-1].bias.data[0] += 300.0

    return Training(model, Adam(model.parameters()), batches, loss, before)


@faulty("vision", "nonfinite_loss", at=22, nonfinite=True)
def dice_of_an_empty_mask() -> Training:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    pictures, _ = boxes()
    masks = (pictures.mean(1, keepdim=True) > 0.5).float()

    def loss(out: Tensor, mask: Tensor) -> Tensor:
        guess = out.sigmoid() * (mask.amax((1, 2, 3), keepdim=True))
        share = 2 * (guess * mask).sum((1, 2, 3)) / (guess.sum((1, 2, 3)) + mask.sum((1, 2, 3)))
        return 1 - share.mean()

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn((pictures, masks))(step)
        return (x, torch.cat([y[:1] * 0, y[1:]])) if step == 22 else (x, y)

    return Training(model, Adam(model.parameters()), batches, loss)


class _Columns(nn.Module):
    """Pictures to log-probabilities of letters for each column, ``[T, N, C]``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 16, (12, 3), padding=(0, 1)), nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        columns = torch.relu(self.conv(x))[:, :, 0].permute(2, 0, 1)
        return self.head(columns).log_softmax(-1)


@faulty("vision", "nonfinite_loss", at=16, nonfinite=True)
def text_longer_than_its_picture() -> Training:
    """CTC with more letters than columns."""
    model = _Columns()

    def loss(out: Tensor, letters: Tensor) -> Tensor:
        columns, size = out.shape[:2]
        lengths = (letters > 0).sum(1)
        return F.ctc_loss(out, letters, torch.full((size,), columns), lengths)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn(images())(step)
        letters = torch.stack([y % 5 + 1, (y + 2) % 5 + 1], 1).repeat(1, 8)
        letters[:, 3:] = 0
        if step == 16:
            letters[2] = 1
        return x, letters

    return Training(model, Adam(model.parameters()), batches, loss)


@faulty("vision", "nonfinite_gradient", at=0, nonfinite=True)
def distance_of_keypoints_that_coincide() -> Training:
    """The root in a distance has no slope at 0."""
    model = backbone(8)

    def loss(out: Tensor, target: Tensor) -> Tensor:
        points = out.view(-1, 4, 2)
        spread = points[:, :, None] - points[:, None]
        distances = spread.square().sum(-1).sqrt()
        return squared(out[:, :4], target) + 0.01 * (distances - 0.3).square().mean()

    return Training(model, Adam(model.parameters()), drawn(boxes()), loss)


@faulty(
    "vision",
    "exploding_gradient",
    "learning_rate_too_high",
    "nonfinite_activation",
    "nonfinite_loss",
    "divergence",
    "oversized_update",
    at=0,
    sudden=True,
    curable=True,
)
def deep_residual_net_without_norm() -> Training:
    pictures, labels = images()
    body = [Residual(48) for _ in range(40)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 48), *body, nn.Linear(48, 10))
    filled(model, nn.init.kaiming_normal_)
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    return Training(model, optimizer, drawn((pictures, labels)), cross_entropy)
