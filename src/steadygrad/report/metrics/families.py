"""What is told of each run, with its unit: the names a dashboard is built on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from steadygrad.records import RunInfo
from steadygrad.report.vitals import Newest, Vitals

PREFIX = "steadygrad"


@dataclass(frozen=True, slots=True)
class Sample:
    """One run when it is asked for.

    Attributes:
        file: name of its file.
        info: what it is.
        vitals: how it is doing.
        counts: counters by name, none of which ever falls.
        finished: whether its writer closed it.
        last_step_s: when its newest step was, seconds since the epoch.
    """

    file: str
    info: RunInfo
    vitals: Vitals
    counts: dict[str, float]
    finished: bool
    last_step_s: float


COUNTERS: dict[str, tuple[str, Callable[[Vitals], float]]] = {
    "steps": ("Optimizer steps recorded, over all optimizers.", lambda one: one.facts.steps),
    "clipped_steps": ("Steps in which some gradient was scaled down.", lambda one: one.facts.clipped),
    "skipped_steps": ("Steps left out for a fault.", lambda one: one.facts.skipped),
    "overflow_steps": ("Steps left out while the loss scale was sought.", lambda one: one.facts.overflowed),
    "nonfinite_steps": ("Steps with a non-finite gradient.", lambda one: one.facts.nonfinite),
    "rollbacks": ("Times the state went back to an earlier one.", lambda one: one.rolled_back),
}
"""Of old steps that share a row only whether one of them was clipped or skipped is known: lower bounds."""

_NEWEST: dict[str, tuple[str, Callable[[Newest], float]]] = {
    "step": ("Newest step of the optimizer, counted from 0.", lambda one: one.step),
    "total_norm": ("L2 norm of all gradients at the newest step.", lambda one: one.total_norm),
    "cap": ("Total norm above which a step is scaled; NaN without one.", lambda one: one.cap),
    "clip_coef": ("Smallest factor applied to a gradient at the newest step.", lambda one: one.clip_coef),
    "learning_rate": ("Largest learning rate of the newest step.", lambda one: one.lr),
    "steps_per_second": ("Speed over the newest rows.", lambda one: one.steps_per_s),
}

_GAUGES: dict[str, tuple[str, Callable[[Sample, float], float]]] = {
    "loss": ("Newest loss that was logged.", lambda one, _: one.vitals.loss),
    "seconds_since_step": (
        "Seconds since the newest step.",
        lambda one, now_s: max(now_s - one.last_step_s, 0.0),
    ),
    "finished": (
        "1 where the run was closed, 0 while it goes on or was cut off.",
        lambda one, _: one.finished,
    ),
}


def families(samples: Iterable[Sample], now_s: float) -> Iterator[Metric]:
    """Turn runs into metric families.

    Args:
        samples: the runs, of different files.
        now_s: seconds since the epoch.

    Yields:
        One family a name, with one sample for each run, and optimizer or kind of finding.
    """
    runs = list(samples)
    yield _info(runs)
    for name, (text, read) in _GAUGES.items():
        gauge = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["run"])
        for one in runs:
            gauge.add_metric([_label(one.file)], read(one, now_s))
        yield gauge
    for name, (text, pick) in _NEWEST.items():
        gauge = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["run", "optimizer"])
        for one in runs:
            for newest in one.vitals.newest:
                gauge.add_metric([_label(one.file), str(newest.optimizer)], pick(newest))
        yield gauge
    for name, (text, _) in COUNTERS.items():
        counter = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=["run"])
        for one in runs:
            counter.add_metric([_label(one.file)], one.counts[name])
        yield counter
    yield _findings(runs)


def _info(runs: Iterable[Sample]) -> Metric:
    family = InfoMetricFamily(f"{PREFIX}_run", "What the run is.", labels=["run"])
    for one in runs:
        info = one.info
        facts = {"name": info.name, "mode": info.mode, "policy": info.policy, "model": info.model}
        facts |= {"rank": str(info.rank), "world_size": str(info.world_size)}
        family.add_metric([_label(one.file)], {name: _label(text) for name, text in facts.items()})
    return family


def _findings(runs: Iterable[Sample]) -> Metric:
    text = "Findings, by kind and severity."
    family = CounterMetricFamily(f"{PREFIX}_findings", text, labels=["run", "kind", "severity"])
    for one in runs:
        for (kind, severity), count in sorted(one.vitals.findings.items()):
            family.add_metric([_label(one.file), _label(kind), _label(severity)], count)
    return family


def _label(text: str) -> str:
    """A file's name may hold bytes that are no text; a label may not."""
    return str(text).encode("utf-8", "backslashreplace").decode()
