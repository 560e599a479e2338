"""Pictures of units, outputs and inputs: which values they take, with the fault and without."""

from __future__ import annotations

import math

import torch
from forms import BLUE, CURED, FAULTY, LEVEL, ORANGE, histograms, key, picture, twins
from reruns import both, finding_of, trained
from torch import nn


def dead_units() -> None:
    """What enters the ReLU, and how often each unit answers."""
    lefts = both("dead_units")
    entering = {name: left["model"][0](left["x"]).detach() for name, left in lefts.items()}
    answers = {name: (values > 0).float().mean(0).sort().values for name, values in entering.items()}
    silent = [float((share == 0).float().mean()) for share in answers.values()]
    alt = (
        f"Left: values that enter the ReLU; with a bias of -10 all lie far below 0, with a bias of 0 on both sides of it. "
        f"Right: share of the rows for which each of the 32 units answers: {silent[0]:.0%} of the units never do, "
        f"with a bias of 0 {silent[1]:.0%}."
    )
    with picture("dead_units", alt, columns=2) as (left, right):
        names = ("bias -10", "bias 0")
        histograms(left, dict(zip(names, entering.values(), strict=True)), 48, (-14.0, 4.0))
        left.axvspan(-14.0, 0.0, color=ORANGE, alpha=0.12, lw=0)
        left.text(-5.2, left.get_ylim()[1] * 0.5, "ReLU\ngives 0", ha="center", fontsize=10)
        left.set(xlabel="value that enters the ReLU")
        for share, label, style in zip(answers.values(), names, (FAULTY, CURED), strict=True):
            right.plot(share.tolist(), label=label, lw=2.5, **style)
        right.set(xlabel="unit, the quietest first", ylabel="rows it answers", ylim=(-0.04, 1))
        right.yaxis.set_major_formatter("{x:.0%}")
        key(right)


def saturated_units() -> None:
    """What leaves the tanh, and how steep it is there."""
    lefts = both("saturated_units")
    leaving = {name: left["model"][0](left["x"]).tanh().detach() for name, left in lefts.items()}
    slopes = {
        name: (1 - values.double().square()).clamp_min(1e-9).log10() for name, values in leaving.items()
    }
    flat = [float((slope < -2).double().mean()) for slope in slopes.values()]
    alt = (
        f"Left: values that leave the tanh; with weights of spread 10 they pile up at -1 and 1, with a spread of 0.1 they lie between. "
        f"Right: slope of the tanh at these values on a log axis; with the fault it is below a hundredth for {flat[0]:.0%} of them, "
        f"without for {flat[1]:.0%}."
    )
    with picture("saturated_units", alt, columns=2) as (left, right):
        names = ("spread 10", "spread 0.1")
        histograms(left, dict(zip(names, leaving.values(), strict=True)), 40, (-1.0, 1.0))
        left.set(xlabel="value that leaves the tanh")
        histograms(right, dict(zip(names, slopes.values(), strict=True)), 36, (-9.0, 0.0))
        right.set(xlabel="slope of the tanh there", xticks=(-9, -6, -3, 0))
        right.set_xticklabels(["≤ 1e-9", "1e-6", "0.001", "1"])


def output_range_mismatch() -> None:
    """Targets beside what the output can be, and the loss that comes of it."""
    lefts = both("output_range_mismatch")
    faulty = lefts["faulty"]
    outputs, targets = faulty["model"](faulty["x"]).detach(), faulty["targets"]
    floor = finding_of(faulty, "output_range_mismatch").evidence["best loss"]
    courses = {
        name: trained(
            left["model"],
            lambda output: nn.functional.mse_loss(output, targets),
            left["x"],
            lambda parameters: torch.optim.Adam(parameters, lr=0.1),
            300,
        )
        for name, left in zip(("behind a sigmoid", "free output"), lefts.values(), strict=True)
    }
    alt = (
        f"Left: the outputs lie between {float(outputs.min()):.2g} and {float(outputs.max()):.2g}, the targets between "
        f"{float(targets.min()):.3g} and {float(targets.max()):.3g}. Right: loss against steps on a log axis; behind the sigmoid it "
        f"stays at its floor of {floor:.4g}, a free output brings it to {min(courses['free output']):.2g}."
    )
    with picture("output_range_mismatch", alt, columns=2) as (left, right):
        histograms(left, {"outputs": outputs, "targets": targets}, 40, (0.0, 160.0))
        left.set(xlabel="value")
        twins(right, courses)
        right.axhline(floor, label="floor", **LEVEL)
        right.set(ylabel="loss")
        key(right)


def double_softmax() -> None:
    """What the loss makes of a perfect answer, and where it ends."""
    lefts = both("double_softmax")
    certain = torch.eye(5)[0]
    floor = math.log(1 + 4 / math.e)
    courses = {
        name: trained(
            left["model"],
            lambda output: nn.functional.cross_entropy(output, lefts["faulty"]["labels"]),
            left["x"],
            lambda parameters: torch.optim.Adam(parameters, lr=0.01),
            400,
        )
        for name, left in zip(("softmax twice", "softmax once"), lefts.values(), strict=True)
    }
    alt = (
        f"Left: probabilities of five classes for a perfect answer: after a second softmax the right class has "
        f"{float(certain.softmax(0)[0]):.2f} instead of 1. Right: loss against steps; with softmax twice it ends at "
        f"{courses['softmax twice'][-1]:.2f}, above its floor of {floor:.3f}, with softmax once at {courses['softmax once'][-1]:.2f}."
    )
    with picture("double_softmax", alt, columns=2) as (left, right):
        places = range(5)
        left.bar(
            [p - 0.2 for p in places], certain.softmax(0).tolist(), 0.4, color=FAULTY["color"], label="twice"
        )
        left.bar([p + 0.2 for p in places], certain.tolist(), 0.4, color=BLUE, label="once")
        left.set(xlabel="class, for a perfect answer", ylabel="probability")
        key(left)
        twins(right, courses, log=False)
        right.axhline(floor, label="floor", **LEVEL)
        right.set(ylabel="loss", ylim=(0, None))
        key(right)


def single_class_softmax() -> None:
    """What the output is, and what the loss does."""
    lefts = both("single_class_softmax")
    names = ("softmax", "sigmoid")
    outputs = [left["model"](left["x"]).detach() for left in lefts.values()]
    courses = {
        name: trained(
            left["model"],
            lambda output: nn.functional.binary_cross_entropy(output, lefts["faulty"]["labels"]),
            left["x"],
            lambda parameters: torch.optim.Adam(parameters, lr=0.01),
            200,
        )
        for name, left in zip(names, lefts.values(), strict=True)
    }
    alt = (
        f"Left: outputs of a batch before training; behind a softmax over one unit all are 1, behind a sigmoid they differ. "
        f"Right: loss against steps on a log axis; it stays at {courses['softmax'][-1]:.3g} with the softmax and falls to "
        f"{courses['sigmoid'][-1]:.2g} with the sigmoid."
    )
    with picture("single_class_softmax", alt, columns=2) as (left, right):
        histograms(left, dict(zip(names, outputs, strict=True)), 40, (0.0, 1.02))
        left.set(xlabel="output")
        twins(right, courses)
        right.set(ylabel="loss")


def unnormalised_input() -> None:
    """What enters the first layer, and what the loss does."""
    lefts = both("unnormalised_input")
    names = ("0 to 255", "-1 to 1")
    courses = {
        name: trained(
            left["model"],
            lambda output: nn.functional.cross_entropy(output, lefts["faulty"]["labels"]),
            left["pixels"],
            lambda parameters: torch.optim.SGD(parameters, lr=0.1),
            100,
        )
        for name, left in zip(names, lefts.values(), strict=True)
    }
    alt = (
        f"Left: values that enter the first layer: pixels from 0 to 255, and the same pixels between -1 and 1. Right: loss against "
        f"steps on a log axis: with raw pixels it jumps to {max(courses[names[0]]):.2g} and ends at {courses[names[0]][-1]:.2g}, with "
        f"normalised ones it falls from {courses[names[1]][0]:.2g} to {courses[names[1]][-1]:.2g}."
    )
    with picture("unnormalised_input", alt, columns=2) as (left, right):
        histograms(
            left, dict(zip(names, (one["pixels"] for one in lefts.values()), strict=True)), 64, (-10.0, 256.0)
        )
        left.set(xlabel="value that enters the first layer", yscale="log")
        twins(right, courses)
        right.set(ylabel="loss")


PICTURES = {
    drawn.__name__: drawn
    for drawn in (
        dead_units,
        saturated_units,
        output_range_mismatch,
        double_softmax,
        single_class_softmax,
        unnormalised_input,
    )
}
