"""Tables of what was measured, and the performance profile as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.survival.judge import Judged, best_constant, interval, judge
from benchmarks.survival.store import Cell
from benchmarks.survival.trial import Result
from benchmarks.survival.workload import Workload

Judgements = dict[tuple[str, str, float], Judged]


def judged(
    results: dict[str, Result],
    workloads: Sequence[Workload],
    names: Sequence[str],
    scales: Sequence[float],
    tuning: Sequence[int],
    seeds: Sequence[int],
) -> tuple[Judgements, dict[tuple[str, float], tuple[str, float]]]:
    """Every contender everywhere, and the best constant of each place with its loss."""
    found: Judgements = {}
    best: dict[tuple[str, float], tuple[str, float]] = {}
    for workload in workloads:
        for scale in scales if workload.scaled and not workload.stable else scales[:1]:
            name = best_constant(results, workload, scale, tuning)
            losses = [results[Cell(workload.name, name, scale, seed).key].loss for seed in seeds]
            best[workload.name, scale] = name, float(np.mean(losses))
            for contender in names:
                one = judge(results, workload, contender, scale, seeds, best[workload.name, scale][1])
                if one is not None:
                    found[workload.name, contender, scale] = one
    return found, best


def summary(found: Judgements, names: Sequence[str], unstable: Sequence[str]) -> Iterator[str]:
    """One row a contender over all unstable places, and over those at natural scale."""
    yield "| contender | median regret [95 %] | 90th percentile [95 %] | worst | lost runs | natural scale: median / p90 / worst |"
    yield "| --- | --- | --- | ---: | ---: | --- |"
    for name in names:
        mine = {key: one for key, one in found.items() if key[1] == name and key[0] in unstable}
        if not mine:
            continue
        regrets = [one.regret for one in mine.values()]
        natural = [one.regret for key, one in mine.items() if key[2] == 1.0]
        low = interval(regrets, 0.5)
        high = interval(regrets, 0.9)
        lost, runs = sum(one.lost for one in mine.values()), sum(len(one.losses) for one in mine.values())
        yield (
            f"| {name} | {_with_interval(low)} | {_with_interval(high)} | {max(regrets):+.3f} | {lost} of {runs} | "
            f"{np.median(natural):+.3f} / {np.quantile(natural, 0.9):+.3f} / {max(natural):+.3f} |"
        )


def each(
    found: Judgements,
    best: dict[tuple[str, float], tuple[str, float]],
    names: Sequence[str],
    workloads: Sequence[Workload],
) -> Iterator[str]:
    """Regret at natural scale, workload by workload."""
    yield f"| workload | family | best constant | its loss | {' | '.join(names)} |"
    yield "| --- | --- | ---: | ---: |" + " ---: |" * len(names)
    for workload in workloads:
        if (workload.name, 1.0) not in best:
            continue
        constant, loss = best[workload.name, 1.0]
        cells = [_regret(found.get((workload.name, name, 1.0))) for name in names]
        label = "no clip" if constant == "skip" else constant.removeprefix("clip:")
        yield f"| {workload.name} | {workload.family} | {label} | {loss:.4g} | {' | '.join(cells)} |"


def harm(
    results: dict[str, Result], controls: Sequence[Workload], names: Sequence[str], seeds: Sequence[int]
) -> Iterator[str]:
    """Loss against the unguarded twin with the same seed, and how many steps were touched."""
    yield f"| control | {' | '.join(f'{name}: loss, touched' for name in names)} |"
    yield "| --- |" + " ---: |" * len(names)
    for workload in controls:
        yield f"| {workload.name} | {' | '.join(_harm(results, workload.name, name, seeds) for name in names)} |"


def _harm(results: dict[str, Result], workload: str, name: str, seeds: Sequence[int]) -> str:
    pairs = [
        (results.get(Cell(workload, name, 1.0, s).key), results.get(Cell(workload, "plain", 1.0, s).key))
        for s in seeds
    ]
    kept = [(one, twin) for one, twin in pairs if one is not None and twin is not None]
    if not kept:
        return ""
    change = np.mean([one.loss for one, _ in kept]) / np.mean([twin.loss for _, twin in kept]) - 1
    touched = np.mean([one.touched or 0.0 for one, _ in kept])
    return f"{change:+.1%}, {touched:.1%}"


def profile(found: Judgements, names: Sequence[str], unstable: Sequence[str], path: Path) -> None:
    """Share of the places where a contender's regret is at most x."""
    import matplotlib as mpl  # noqa: PLC0415 - only for the picture

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    grid = np.linspace(-0.3, 1.0, 400)
    for place, name in enumerate(names):
        regrets = [one.regret for key, one in found.items() if key[1] == name and key[0] in unstable]
        if regrets:
            share = [(np.asarray(regrets) <= x).mean() for x in grid]
            ours = name in {"auto", "auto_recover", "steady_recover"}
            axes.plot(grid, share, label=name, lw=2.4 if ours else 1.1, ls=["-", "--", ":"][place % 3])
    axes.set(
        xlabel="regret (0: the best constant, 1: a constant guess)", ylabel="share of places", ylim=(0, 1.01)
    )
    axes.legend(frameon=False, fontsize=8, ncol=2)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _regret(one: Judged | None) -> str:
    return "" if one is None else f"{one.regret:+.3f}" + (f" ({one.lost} lost)" if one.lost else "")


def _with_interval(found: tuple[float, float, float]) -> str:
    middle, low, high = found
    return f"{middle:+.3f} [{low:+.3f}, {high:+.3f}]" if math.isfinite(middle) else "-"
