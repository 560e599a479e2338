"""Pictures of data and answers in which nothing differs or nothing fits."""

from __future__ import annotations

import math
from functools import partial

import torch
from forms import BLUE, GREEN, INK, RED, key, picture, twins
from reruns import both, reproduction, trained
from torch import Tensor, nn


def constant_input() -> None:
    """Values of the pixels before and after the division."""
    left = reproduction("constant_input")
    alt = "Two histograms of a batch: the pixels are spread from 0 to 254, and what enters the model is 0 throughout."
    with picture("constant_input", alt, columns=2, height=2.6) as (before, after):
        before.hist(left["pixels"].flatten().tolist(), bins=32, color=BLUE)
        after.hist(left["inputs"].flatten().tolist(), bins=32, range=(-1, 1), color=RED)
        before.set(xlabel="pixels", ylabel="how many")
        after.set(xlabel="pixels // 255")


def constant_targets() -> None:
    """How often each class occurs, as it should be and as it is."""
    left = reproduction("constant_targets")
    alt = "Number of examples of each class: as they were all ten occur, and after the division there is only class 0."
    torch.manual_seed(0)
    torch.randn(256, 64)
    meant = torch.bincount(torch.randint(10, (256,)), minlength=10)
    shown = torch.bincount(left["labels"], minlength=10)
    with picture("constant_targets", alt, height=2.6) as axes:
        axes.bar([place - 0.2 for place in range(10)], meant.tolist(), 0.4, color=BLUE, label="as they were")
        axes.bar([place + 0.2 for place in range(10)], shown.tolist(), 0.4, color=RED, label="divided by 255")
        axes.set(xlabel="class", ylabel="how many", xticks=range(10))
        key(axes)


def unscaled_targets() -> None:
    """The loss over that of the best constant, with raw and with scaled targets."""
    courses = {}
    for name, left in zip(("dollars", "scaled"), both("unscaled_targets").values(), strict=True):
        loss_fn = partial(nn.functional.mse_loss, target=left["targets"])
        losses = trained(left["model"], loss_fn, left["inputs"], partial(torch.optim.Adam, lr=1e-2), 300)
        courses[name] = [loss / float(left["targets"].var()) for loss in losses]
    alt = (
        f"Loss as a share of what the best constant gets, against steps on a log axis: with targets in dollars it stays at "
        f"{courses['dollars'][-1]:.2g}, with scaled targets it falls to {courses['scaled'][-1]:.2g}."
    )
    with picture("unscaled_targets", alt) as axes:
        twins(axes, courses)
        axes.set(ylabel="loss / loss of the best constant")


def sharp_softmax() -> None:
    """Weights of one query over all positions."""
    left = reproduction("sharp_softmax")
    head, x = left["model"][0], left["inputs"][:1]
    scores: Tensor = (head.query(x) @ head.key(x).transpose(1, 2)).detach()[0, 0]
    alt = (
        "Weight that one query gives to each of 32 positions: without the division one position has nearly all of it, with "
        "the division by the root of the width it is spread over all."
    )
    with picture("sharp_softmax", alt, height=2.6) as axes:
        places = range(len(scores))
        axes.bar(
            [p - 0.2 for p in places], scores.softmax(0).tolist(), 0.4, color=RED, label="scores as they are"
        )
        divided = (scores / 256**0.5).softmax(0).tolist()
        axes.bar([p + 0.2 for p in places], divided, 0.4, color=BLUE, label="divided by 16")
        axes.set(xlabel="position", ylabel="weight")
        key(axes)


def constant_prediction() -> None:
    """Loss of the reproduction beside the entropy of its labels."""
    left = reproduction("constant_prediction")
    losses = [reading.loss for reading in left["monitor"].recent]
    steps = [reading.step for reading in left["monitor"].recent]
    norms = [reading.total_norm for reading in left["monitor"].recent]
    alt = (
        "Loss and total gradient norm against steps: the loss lies on the line at 1.386, the entropy of four equal classes, "
        "throughout, while the gradient doesn't vanish."
    )
    with picture("constant_prediction", alt, columns=2) as (first, second):
        first.plot(steps, losses, color=RED, lw=1.5, label="loss")
        first.axhline(math.log(4.0), color=INK, ls="--", label="entropy of the labels")
        first.set(xlabel="step", ylabel="loss", ylim=(0, 1.8))
        key(first)
        second.semilogy(steps, norms, color=GREEN, lw=1.5)
        second.set(xlabel="step", ylabel="total gradient norm")


PICTURES = {
    drawn.__name__: drawn
    for drawn in (constant_input, constant_targets, unscaled_targets, sharp_softmax, constant_prediction)
}
