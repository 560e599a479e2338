"""The forms that the pictures have in common, and how they look. Each has its text alternative beside it, ``NAME.txt``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

# Okabe and Ito's colours: told apart by everybody, and in grey too where line styles differ.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
INK = "#555555"
FAULTY, CURED = {"color": RED, "ls": "-"}, {"color": BLUE, "ls": "--"}
LEVEL = {"color": INK, "ls": ":", "lw": 2}  # what a course is held against
LOOK = {
    "svg.hashsalt": "steadygrad",
    "font.size": 11,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.titlesize": 11,
}


class Drawn:
    """Where the pictures go.

    Attributes:
        folder: it.
    """

    folder = Path(__file__).parents[1] / "pictures"


@contextmanager
def picture(name: str, alt: str, width: float = 5.6, height: float = 3.2, columns: int = 1) -> Iterator[Any]:
    """A figure that is saved at the end, with its text alternative."""
    mpl.rcParams.update(LOOK)
    figure, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained")
    yield axes
    for one in figure.axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(visible=True, axis="y", alpha=0.25)
    figure.savefig(Drawn.folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
    (Drawn.folder / f"{name}.txt").write_text(alt + "\n", encoding="utf-8")


def key(axes: Axes, told: Sequence[Any] | None = None) -> None:
    """What is what, above the picture, where it hides nothing: everything that has a name, or what is told."""
    assert axes.figure is not None
    alone = len(axes.figure.axes) == 1
    axes.legend(
        handles=told,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3 if alone else 1,
        borderaxespad=0.3,
        handlelength=1.6,
        borderpad=0,
        columnspacing=1.4,
    )


def twins(axes: Axes, courses: Mapping[str, Iterable[float]], *, log: bool = True) -> None:
    """Two courses against steps: the faulty one first, then its cured twin, each under its name."""
    for (label, values), style in zip(courses.items(), (FAULTY, CURED), strict=True):
        axes.plot(list(values), label=label, lw=1.8, **style)
    axes.set(xlabel="step", yscale="log" if log else "linear")
    key(axes)


def histograms(axes: Axes, values: Mapping[str, Tensor], bins: int, between: tuple[float, float]) -> None:
    """How often which value occurs: faulty filled, cured as an outline."""
    for (label, one), (faulty, colour) in zip(values.items(), ((True, RED), (False, BLUE)), strict=True):
        axes.hist(
            one.detach().flatten().clamp(*between).tolist(),
            bins=bins,
            range=between,
            label=label,
            color=colour,
            histtype="stepfilled" if faulty else "step",
            alpha=0.75 if faulty else 1.0,
            lw=1.8,
        )
    axes.set(ylabel="how many")
    key(axes)


def by_tensor(axes: Axes, sizes: Mapping[str, float | None], missing: str) -> None:
    """A bar for each tensor; in the place of a bar that isn't there, why."""
    for place, size in enumerate(sizes.values()):
        if size:
            axes.barh(place, size, 0.6, color=BLUE)
        else:
            axes.text(0, place, f" ✕ {missing}", color=RED, va="center", weight="bold")
    _rows(axes, list(sizes))
    axes.locator_params(axis="x", nbins=4)
    if not any(sizes.values()):
        axes.set(xticks=[], xlim=(0, 1))


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)


def stations(axes: Axes, seen: Sequence[tuple[str, int, int]]) -> None:
    """The way of a fault: share of numbers that aren't finite at each station, from the batch down to the gradients."""
    least = min(bad / size for _, bad, size in seen if bad) / 4
    first = next(place for place, (_, bad, _) in enumerate(seen) if bad)
    for place, (_, bad, size) in enumerate(seen):
        if bad:
            axes.barh(place, bad / size, 0.6, color=RED)
            axes.text(bad / size, place, f" {bad:,} of {size:,}", va="center", fontsize=10)
        else:
            axes.text(least, place, " all finite", va="center", fontsize=10, color=BLUE)
    axes.axhline(first - 0.5, color=RED, ls=":", lw=1.2)
    axes.text(12, first - 0.45, "begins here", color=RED, va="top", ha="right", fontsize=10, weight="bold")
    _rows(axes, [name.removeprefix("backward: ") for name, _, _ in seen])
    ticks = [10.0**power for power in range(math.ceil(math.log10(least)), 1)]
    axes.set(xscale="log", xlim=(least, 12), xticks=ticks, xlabel="share that isn't finite")
    axes.set_xticklabels(
        [f"{tick:.3g}" if tick < 0.001 else f"{tick:.1%}".replace(".0", "") for tick in ticks]
    )
    axes.minorticks_off()
