"""Pictures of steps: how long they are beside the weights, the rate they stand, and what their state and scale do."""

from __future__ import annotations

from typing import Any

import torch
from forms import BLUE, CURED, FAULTY, GREEN, INK, LEVEL, ORANGE, RED, histograms, key, picture, twins
from reruns import both, finding_of, reproduction, trained
from torch import Tensor


def oversized_update() -> None:
    """Length of the update beside that of the weights, where it was measured."""
    lefts = both("oversized_update")
    names = ("lr 0.1", "lr 0.0001")
    courses = {name: _ratios(left["monitor"]) for name, left in zip(names, lefts.values(), strict=True)}
    first = [next(iter(course.values())) for course in courses.values()]
    alt = (
        f"Length of the update over that of the weights against steps on a log axis: at a rate of 0.1 the first step is "
        f"{first[0]:.2g} of the weights, at 0.0001 it is {first[1]:.2g}. Steps of a thousandth to a hundredth are usual."
    )
    with picture("oversized_update", alt) as axes:
        axes.axhspan(1e-3, 1e-2, color=GREEN, alpha=0.15, lw=0, label="usual")
        for (name, course), style in zip(courses.items(), (FAULTY, CURED), strict=True):
            axes.semilogy(list(course), list(course.values()), marker="o", ms=3, lw=1.8, label=name, **style)
        axes.set(xlabel="step", ylabel="‖update‖ / ‖weights‖")
        key(axes)


def _ratios(monitor: Any) -> dict[int, float]:
    """Largest of all weight matrices, by step; biases begin at 0."""
    return {
        reading.step: float((reading.update_norms / reading.param_norms)[[0, 2]].max())
        for reading in monitor.recent
        if reading.update_norms is not None and reading.param_norms is not None
    }


def stalled_update() -> None:
    """Each weight's step beside the distance to the next number it can take."""
    lefts = both("stalled_update")
    names = ("lr 1e-12", "lr 0.01")
    ratios = {name: _steps_in_ulps(left) for name, left in zip(names, lefts.values(), strict=True)}
    lost = [float((ratio < 0).double().mean()) for ratio in ratios.values()]
    alt = (
        f"The step of each weight over half the distance to the next float32 number, on a log axis: below 1 it is rounded away. "
        f"At a rate of 1e-12 that is {lost[0]:.1%} of all weights, at 0.01 it is {lost[1]:.1%}."
    )
    with picture("stalled_update", alt) as axes:
        histograms(axes, ratios, 60, (-8.0, 8.0))
        axes.axvspan(-8.0, 0.0, color=ORANGE, alpha=0.12, lw=0)
        axes.text(-0.2, axes.get_ylim()[1] * 0.97, "rounded away", ha="right", va="top", fontsize=10)
        axes.set(xlabel="step / half the distance to the next float32 number", xticks=range(-8, 9, 4))
        axes.set_xticklabels(["1e-8", "1e-4", "1", "1e4", "1e8"])


def _steps_in_ulps(left: dict[str, Any]) -> Tensor:
    """Log10, of each weight, for the last step of plain gradient descent."""
    rate = left["optimizer"].param_groups[0]["lr"]
    parts = []
    for weight in left["model"].parameters():
        value = weight.detach().abs()
        spacing = torch.nextafter(value, torch.tensor(torch.inf)) - value
        parts.append((rate * weight.grad.abs() / (spacing / 2)).double().flatten())
    return torch.cat(parts).clamp_min(1e-8).log10()


def learning_rate_too_high() -> None:
    """The loss on one batch at two rates, and after the same number of steps at many."""
    left = reproduction("learning_rate_too_high")
    model, x = left["model"], left["x"]

    def course(rate: float) -> list[float]:
        return trained(
            model,
            lambda output: (output - x[:, :1]).square().mean(),
            x,
            lambda parameters: torch.optim.Adam(parameters, lr=rate),
            16,
        )

    rates = [10 ** (power / 4) for power in range(-16, 5)]
    ends = [course(rate)[-1] for rate in rates]
    best = min(zip(ends, rates, strict=True))
    courses = {"lr 1": course(1.0), f"lr {best[1]:.2g}": course(best[1])}
    begins = courses["lr 1"][0]
    alt = (
        f"Left: loss on one batch against steps on a log axis; at a rate of 1 it goes from {begins:.2g} up to "
        f"{max(courses['lr 1']):.2g}, at {best[1]:.2g} down to {best[0]:.2g}. Right: loss after 16 steps against the rate, both on "
        f"log axes: a valley around {best[1]:.2g}, and above the loss before training from "
        f"{next(rate for rate, end in zip(rates, ends, strict=True) if rate > best[1] and end > begins):.2g} on."
    )
    with picture("learning_rate_too_high", alt, columns=2) as (first, second):
        twins(first, courses)
        first.set(ylabel="loss on one batch")
        second.loglog(rates, ends, "o-", color=BLUE, ms=3, lw=1.8)
        second.axhline(begins, label="before training", **LEVEL)
        second.plot([1.0], [courses["lr 1"][-1]], "X", color=RED, ms=9, label="lr 1")
        second.set(xlabel="learning rate", ylabel="loss after 16 steps")
        key(second)


def overflow_streak() -> None:
    """The scale of GradScaler, step by step."""
    kept = {"    scaler.update()": "scaler.get_scale()"}
    lefts = both("overflow_streak", keep=kept)
    scales = {
        name: left["kept"]
        for name, left in zip(("NaN at any scale", "without it"), lefts.values(), strict=True)
    }
    ends = [scale[-1] for scale in scales.values()]
    alt = (
        f"Scale of GradScaler against steps on a log axis: with a NaN that no scale cures it is halved at each of 60 steps, from 65536 down "
        f"to {ends[0]:.2g}; without it it stays at {ends[1]:.6g}."
    )
    with picture("overflow_streak", alt) as axes:
        twins(axes, scales)
        axes.set(ylabel="loss scale")


def optimizer_state_corrupt() -> None:
    """The largest first moment, and the loss, until the state is taken back."""
    state = 'optimizer.state[model[0].weight]["exp_avg"].abs().max().item()'
    instead = {
        "guard = sg.guard(model, optimizer, recover=sg.recover.rollback(every=10))": "guard = sg.watch(model, optimizer)"
    }
    keep = {"    optimizer.step()": f"({state}, loss.item())"}
    guarded = reproduction("optimizer_state_corrupt", keep=keep)
    plain = reproduction("optimizer_state_corrupt", keep=keep, instead=instead)
    found = finding_of(guarded, "optimizer_state_corrupt").step
    moments, losses = (
        {
            name: [one[place] for one in left["kept"]]
            for name, left in (("watched only", plain), ("rolled back", guarded))
        }
        for place in (0, 1)
    )
    alt = (
        f"Left: largest of Adam's first moments in the damaged tensor against steps on a log axis: after step 80 it jumps to "
        f"{max(moments['rolled back']):.2g}; found before step {found} and rolled back it is at once at its old size, only watched it decays "
        f"slowly. Right: loss; only watched it rises to {max(losses['watched only'][81:]):.2g} after the damage, rolled back it is "
        f"{losses['rolled back'][-1]:.2g} at the end."
    )
    with picture("optimizer_state_corrupt", alt, columns=2) as (first, second):
        twins(first, moments)
        twins(second, losses, log=False)
        first.set(ylabel="largest first moment")
        second.set(ylabel="loss", xlim=(60, 120))
        for axes in (first, second):
            bit = axes.axvline(80.5, color=INK, ls=":", lw=1.5, label="flipped bit")
            rolled = axes.axvline(found, color=GREEN, ls="-.", lw=1.5, label="found")
        key(second, [bit, rolled])


PICTURES = {
    drawn.__name__: drawn
    for drawn in (
        oversized_update,
        stalled_update,
        learning_rate_too_high,
        overflow_streak,
        optimizer_state_corrupt,
    )
}
