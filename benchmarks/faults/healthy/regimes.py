"""Ways of training: schedules, accumulation, precision, freezing, parts that take turns."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import SGD, Adam, AdamW, SparseAdam
from torch.utils.checkpoint import checkpoint

from benchmarks.faults.case import healthy
from benchmarks.faults.data import blobs, digits, drawn, table
from benchmarks.faults.losses import cross_entropy, squared
from benchmarks.faults.models import Residual, mlp
from benchmarks.faults.training import Training, accumulated, clipped, plain, scaled

FAMILY = "healthy regimes"


@healthy(FAMILY)
def warm_up_from_zero() -> Training:
    model = mlp([64, 64, 64, 10])
    optimizer = AdamW(model.parameters(), 3e-3)

    def before(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, step / 50)

    return Training(model, optimizer, drawn(digits()), cross_entropy, before)


@healthy(FAMILY)
def one_cycle() -> Training:
    model = mlp([64, 64, 64, 10])
    optimizer = SGD(model.parameters(), 0.01, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=200)

    def before(step: int) -> None:
        if step:
            schedule.step()

    return Training(model, optimizer, drawn(digits()), cross_entropy, before)


@healthy(FAMILY, steps=200)
def cosine_with_restarts() -> Training:
    model = mlp([8, 32, 32, 1])
    optimizer = AdamW(model.parameters(), 3e-3)

    def before(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 3e-3 * 0.5 * (1.001 + math.cos(math.pi * (step % 50) / 50))

    return Training(model, optimizer, drawn(table()), squared, before)


@healthy(FAMILY)
def cosine_to_zero_at_the_end() -> Training:
    model = mlp([64, 64, 10])
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)

    def before(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / 150))

    return Training(model, optimizer, drawn(digits()), cross_entropy, before)


@healthy(FAMILY, steps=80)
def four_batches_a_step() -> Training:
    model = mlp([64, 64, 10])
    return Training(
        model, Adam(model.parameters(), 3e-3), drawn(digits(), 8), cross_entropy, loop=accumulated(4)
    )


@healthy(FAMILY)
def autocast_to_bfloat16() -> Training:
    model = mlp([64, 64, 64, 10])
    return Training(
        model,
        AdamW(model.parameters(), 2e-3),
        drawn(digits()),
        cross_entropy,
        context=lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    )


@healthy(FAMILY)
def scaler_that_has_to_come_down() -> Training:
    """The first steps overflow: the scale begins far too high."""
    model = mlp([8, 32, 32, 1])
    optimizer = SGD(model.parameters(), 0.05 / 512, fused=True)
    loop = scaled(GradScaler("cpu", init_scale=2.0**126))
    return Training(model, optimizer, drawn(table()), lambda out, y: 512 * squared(out, y), loop=loop)


@healthy(FAMILY)
def clip_that_seldom_acts() -> Training:
    model = mlp([64, 64, 64, 10])
    return Training(model, SGD(model.parameters(), 0.1), drawn(digits()), cross_entropy, loop=clipped(5.0))


def _pretrained() -> nn.Sequential:
    model = mlp([64, 64, 64, 10])
    optimizer = Adam(model.parameters(), 3e-3)
    training = Training(model, optimizer, drawn(digits(), seed=9), cross_entropy)
    for step in range(60):
        training.step(step)
    model[-1] = nn.Linear(64, 10)
    return model


@healthy(FAMILY)
def frozen_backbone_and_new_head() -> Training:
    model = _pretrained()
    for param in model[:-1].parameters():
        param.requires_grad_(requires_grad=False)
    return Training(model, Adam(model[-1].parameters(), 3e-3), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def frozen_backbone_handed_over_with_the_rest() -> Training:
    model = _pretrained()
    for param in model[:-1].parameters():
        param.requires_grad_(requires_grad=False)
    return Training(model, SGD(model.parameters(), 0.1), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def fine_tuning_at_two_rates() -> Training:
    model = _pretrained()
    groups = [{"params": model[:-1].parameters(), "lr": 1e-5}, {"params": model[-1].parameters()}]
    return Training(model, AdamW(groups, 3e-3), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def gradual_unfreezing() -> Training:
    model = _pretrained()
    for param in model[0].parameters():
        param.requires_grad_(requires_grad=False)

    def before(step: int) -> None:
        if step == 60:
            for param in model[0].parameters():
                param.requires_grad_(requires_grad=True)

    return Training(model, AdamW(model.parameters(), 1e-3), drawn(digits()), cross_entropy, before)


class _LayerDrop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(64, 48), nn.Linear(48, 10)
        self.blocks = nn.ModuleList(Residual(48, normalised=True) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        for block in self.blocks:
            if float(torch.rand(())) > 0.2:
                hidden = block(hidden)
        return self.head(hidden)


@healthy(FAMILY)
def layers_dropped_at_random() -> Training:
    model = _LayerDrop()
    return Training(model, Adam(model.parameters(), 1e-3), drawn(digits()), cross_entropy)


class _Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.body, self.head = nn.Linear(64, 48), mlp([48, 48, 48]), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.body, torch.relu(self.first(x)), use_reentrant=False))


@healthy(FAMILY)
def gradient_checkpointing() -> Training:
    model = _Checkpointed()
    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def weights_averaged_beside() -> Training:
    model = mlp([64, 64, 10])
    average = torch.optim.swa_utils.AveragedModel(model)

    def loop(training: Training, step: int) -> Tensor:
        loss = plain(training, step)
        average.update_parameters(model)
        return loss

    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy, loop=loop)


@healthy(FAMILY)
def residuals_that_begin_at_zero() -> Training:
    blocks = [Residual(48) for _ in range(12)]
    for block in blocks:
        nn.init.zeros_(block.body[-1].weight)
        nn.init.zeros_(block.body[-1].bias)
    model = nn.Sequential(nn.Linear(64, 48), *blocks, nn.Linear(48, 10))
    return Training(model, SGD(model.parameters(), 0.02, momentum=0.9), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def batches_of_one() -> Training:
    model = mlp([8, 32, 1])
    return Training(model, SGD(model.parameters(), 3e-3), drawn(table(), 1), squared)


@healthy(FAMILY)
def sparse_rows() -> Training:
    model = nn.Sequential(nn.EmbeddingBag(500, 16, sparse=True))
    head = torch.randn(16, 4)
    words = torch.randint(0, 500, (600, 6))

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out @ head, y)

    batches = drawn((words, words[:, 0] % 4))
    return Training(model, SparseAdam(model.parameters(), 0.01), batches, loss)


@healthy(FAMILY)
def two_tasks_in_turn() -> Training:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(2, 32)
            self.left, self.right = nn.Linear(32, 3), nn.Linear(32, 3)

        def forward(self, x: Tensor, *, left: bool) -> Tensor:
            hidden = torch.relu(self.body(x))
            return self.left(hidden) if left else self.right(hidden)

    model = Heads()

    def batches(step: int) -> tuple[dict[str, object], Tensor]:
        x, y = drawn(blobs())(step)
        return {"x": x, "left": step % 2 == 0}, y

    return Training(model, Adam(model.parameters(), 3e-3), batches, cross_entropy)
