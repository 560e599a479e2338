"""Half precision and loss scaling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import SGD, Adam

from benchmarks.faults.case import faulty
from benchmarks.faults.data import digits, drawn, table
from benchmarks.faults.losses import cross_entropy, squared
from benchmarks.faults.models import he, mlp
from benchmarks.faults.training import Training, scaled

Pair = tuple[Tensor, Tensor]


def _half(pair: Pair, dtype: torch.dtype = torch.float16) -> Pair:
    return pair[0].to(dtype), pair[1].to(dtype) if pair[1].is_floating_point() else pair[1]


def _scaler(scale: float = 65536.0) -> GradScaler:
    return GradScaler("cpu", init_scale=scale)


@faulty("precision", "nonfinite_activation", "unnormalised_input", at=0, nonfinite=True, curable=True)
def activations_beyond_float16() -> Training:
    model = he(mlp([64, 64, 64, 10])).half()
    inputs, labels = digits()
    batches = drawn(((inputs * 6e4).half(), labels))
    return Training(model, SGD(model.parameters(), 0.1), batches, cross_entropy)


@faulty(
    "precision",
    "nonfinite_parameter",
    "optimizer_state_corrupt",
    "oversized_update",
    at=0,
    nonfinite=True,
    curable=True,
)
def epsilon_below_float16() -> Training:
    model = mlp([64, 64, 64, 10]).half()
    optimizer = Adam(model.parameters(), 1e-3, foreach=False)
    return Training(model, optimizer, drawn(_half(digits())), cross_entropy)


@faulty("precision", "stalled_update", at=0, curable=True)
def steps_below_bfloat16() -> Training:
    model = mlp([64, 64, 64, 10]).to(torch.bfloat16)
    batches = drawn(_half(digits(), torch.bfloat16))
    return Training(model, SGD(model.parameters(), 1e-5), batches, cross_entropy)


@faulty("precision", "vanishing_gradient", "stalled_update", at=0, curable=True)
def gradients_below_float16() -> Training:
    model = mlp([8, 32, 32, 1]).half()
    batches = drawn(_half(table()))
    return Training(model, SGD(model.parameters(), 0.1), batches, lambda out, y: squared(out, y) * 1e-7)


@faulty(
    "precision",
    "overflow_streak",
    "nonfinite_loss",
    "nonfinite_gradient",
    at=20,
    nonfinite=True,
    checked=True,
)
def true_nan_behind_a_scaler() -> Training:
    model = mlp([64, 64, 64, 10])
    broken = [False]

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(out, y) * (torch.log(-(out[0, 0] ** 2) - 1) if broken[0] else 1.0)

    def before(step: int) -> None:
        broken[0] = step >= 20

    optimizer = SGD(model.parameters(), 0.05, fused=True)
    return Training(model, optimizer, drawn(digits()), loss, before, scaled(_scaler()))


@faulty("precision", "clip_is_step_limiter", "stalled_update", steps=150)
def clipped_before_unscaling() -> Training:
    model = mlp([64, 64, 64, 10])
    loop = scaled(_scaler(), 1.0, unscale=False)
    return Training(model, SGD(model.parameters(), 0.05), drawn(digits()), cross_entropy, loop=loop)


@faulty("precision", "nonfinite_activation", "nonfinite_loss", at=0, nonfinite=True)
def sum_of_squares_beyond_float16() -> Training:
    model = mlp([8, 32, 32, 1]).half()
    inputs, targets = table()
    batches = drawn((inputs.half(), (targets * 300).half()))
    optimizer = SGD(model.parameters(), 1e-6)
    return Training(model, optimizer, batches, lambda out, y: ((out - y) ** 2).sum())
