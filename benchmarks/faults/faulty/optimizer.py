"""The optimizer's own faults: its state, its schedule, its signs."""

from __future__ import annotations

import torch
from torch.optim import SGD, Adagrad, Adam, AdamW

from benchmarks.faults.case import faulty
from benchmarks.faults.data import digits, drawn, table, text
from benchmarks.faults.losses import cross_entropy, of_letters, squared
from benchmarks.faults.models import LanguageModel, mlp
from benchmarks.faults.training import Training, clipped

TOO_HIGH = ("learning_rate_too_high", "oversized_update", "divergence", "exploding_gradient")


@faulty("optimizer", "divergence", "exploding_gradient", at=0)
def loss_climbed_instead_of_descended() -> Training:
    """UMLAUT B1, with the flag that torch has for it."""
    model = mlp([64, 48, 10])
    optimizer = Adam(model.parameters(), 1e-2, maximize=True)
    return Training(model, optimizer, drawn(digits()), cross_entropy)


@faulty("optimizer", "optimizer_state_corrupt", "oversized_update", at=60, sudden=True, steps=90)
def second_moment_lost() -> Training:
    model = mlp([64, 64, 64, 10])
    optimizer = Adam(model.parameters(), 1e-3)

    def before(step: int) -> None:
        if step == 60:
            for state in optimizer.state.values():
                state["exp_avg_sq"].zero_()

    return Training(model, optimizer, drawn(digits(), 8), cross_entropy, before)


@faulty(
    "optimizer",
    "optimizer_state_corrupt",
    "oversized_update",
    "divergence",
    "exploding_gradient",
    at=60,
    sudden=True,
    steps=90,
)
def bit_flipped_in_a_moment() -> Training:
    model = LanguageModel()
    optimizer = AdamW(model.parameters(), 1e-3)

    def before(step: int) -> None:
        if step == 60:
            optimizer.state[model.head.weight]["exp_avg"][3, 5] = 1e8

    return Training(model, optimizer, drawn(text(), 16), of_letters, before)


@faulty("optimizer", "stalled_update", at=50, steps=150)
def schedule_run_out() -> Training:
    model = mlp([8, 32, 32, 1])
    optimizer = SGD(model.parameters(), 0.02)

    def before(step: int) -> None:
        optimizer.param_groups[0]["lr"] = max(0.0, 0.02 * (1 - step / 50))

    return Training(model, optimizer, drawn(table()), squared, before)


@faulty("optimizer", "oversized_update", "vanishing_gradient", "divergence", "learning_rate_too_high", at=0)
def decay_that_eats_the_weights() -> Training:
    model = mlp([64, 64, 64, 10])
    optimizer = AdamW(model.parameters(), 0.01, weight_decay=60.0)
    return Training(model, optimizer, drawn(digits()), cross_entropy)


@faulty("optimizer", "stalled_update", at=0, curable=True)
def adagrad_too_slow() -> Training:
    """AUTOTRAINER's slow convergence."""
    model = mlp([64, 32, 32, 10])
    optimizer = Adagrad(model.parameters(), 1e-4)
    return Training(model, optimizer, drawn(digits()), cross_entropy)


@faulty("optimizer", *TOO_HIGH, at=0, sudden=True, curable=True)
def too_much_momentum() -> Training:
    model = mlp([8, 64, 64, 1])
    optimizer = SGD(model.parameters(), 0.3, momentum=0.99)
    return Training(model, optimizer, drawn(table()), squared)


@faulty("optimizer", "clip_is_step_limiter", "stalled_update", steps=150)
def clip_far_below_the_gradient() -> Training:
    model = mlp([64, 64, 10])
    optimizer = SGD(model.parameters(), 0.05)
    return Training(model, optimizer, drawn(digits()), cross_entropy, loop=clipped(1e-5))


@faulty("optimizer", "nonfinite_parameter", "nonfinite_activation", at=0, nonfinite=True, place=("2",))
def checkpoint_with_a_nan() -> Training:
    model = mlp([64, 64, 64, 10])
    model[2].weight.data[3, 5] = float("nan")
    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy)


@faulty("optimizer", "nonfinite_parameter", "optimizer_state_corrupt", at=0, nonfinite=True, curable=True)
def epsilon_of_zero() -> Training:
    """0 / 0 for a feature that is never there."""
    inputs, labels = digits()
    present = (torch.arange(64) != 9).float()
    model = mlp([64, 64, 10])
    optimizer = Adam(model.parameters(), 1e-3, eps=0.0)
    return Training(model, optimizer, drawn((inputs * present, labels)), cross_entropy)
