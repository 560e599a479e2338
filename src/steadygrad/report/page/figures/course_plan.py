"""The course of a run before it is drawn: which pictures and curves it has, and their numbers.

Shape legend: C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steadygrad.records import BoolArray
from steadygrad.report.cards import Card
from steadygrad.report.page.data.buckets import Buckets
from steadygrad.report.page.data.course import EVENTS, Course, Lane
from steadygrad.report.page.data.envelope import Envelope, stretches
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.curves import columns
from steadygrad.report.page.figures.sketch import Numbers

SEVERITY_COLORS = {"error": look.NONFINITE, "warning": look.ORANGE, "info": look.SKY}
SEVERITY_INKS = {"error": "#ffffff", "warning": "#1b2027", "info": "#1b2027"}
"""White can't be read on orange and sky blue: 2.3 to 1."""
FINDINGS = "findings"
LOSS_AXIS = "loss axis"
MOST_LANES = 4


@dataclass(frozen=True, slots=True)
class LanePlan:
    """Curves of one optimizer.

    Attributes:
        optimizer: its index.
        capped: there is a cap.
        lowered: a learning rate below that of the schedule was used.
    """

    optimizer: int
    capped: bool
    lowered: bool


@dataclass(frozen=True, slots=True)
class LossPlan:
    """The picture of the loss.

    Attributes:
        log: on a logarithmic axis.
        finite: any is finite.
        bad: any is not.
    """

    log: bool
    finite: bool
    bad: bool


@dataclass(frozen=True, slots=True)
class CoursePlan:
    """Pictures of the course.

    Attributes:
        lanes: one an optimizer that is drawn.
        several: there are several optimizers.
        finite: any total norm has a place on the axis.
        bad: any step is non-finite.
        loss: that of the loss; None without one.
        rate: there is one of the learning rate.
        events: what was done, top to bottom, findings at the bottom; empty for no such picture.
    """

    lanes: tuple[LanePlan, ...]
    several: bool
    finite: bool
    bad: bool
    loss: LossPlan | None
    rate: bool
    events: tuple[str, ...]


def course_plan(data: Course, told: Sequence[Card] = ()) -> CoursePlan:
    """Say how the course is built.

    Args:
        data: from `steadygrad.report.page.data.course.course`.
        told: findings to mark.

    Returns:
        The plan: equal for two courses that differ in their numbers alone.
    """
    done = [name for key, name in EVENTS.items() if any(lane.events[key].any() for lane in data.lanes)]
    loss = None
    if data.loss.finite or data.bad_loss.any():
        log = look.wants_log(np.concatenate([data.loss.low, data.loss.high]))
        loss = LossPlan(log, data.loss.finite, bool(data.bad_loss.any()))
    return CoursePlan(
        tuple(
            LanePlan(lane.optimizer, lane.cap.finite, _differs(lane.lr, lane.used_lr))
            for lane in data.lanes[:MOST_LANES]
        ),
        len(data.lanes) > 1,
        any(_reaches_above_zero(lane.norm) for lane in data.lanes),
        bool(_nonfinite(data).any()),
        loss,
        any(_reaches_above_zero(lane.lr) for lane in data.lanes),
        (*reversed(done), *([FINDINGS] if told else [])),
    )


def course_numbers(data: Course, told: Sequence[Card], plan: CoursePlan) -> Numbers:
    """Numbers of the course, for those pictures that it has.

    Args:
        data: from `steadygrad.report.page.data.course.course`.
        told: findings to mark.
        plan: from `course_plan`, of the same.

    Returns:
        Data of the sources ``norm-0``, ``cap-0``, ``lr-0``, ``used-lr-0``, ``bad``, ``loss``, ``bad-loss``, ``events``
        and ``findings``; what the axis of the loss spans where the loss never changes.
    """
    found: dict[str, Any] = {"bad": bad_columns(data.buckets, _nonfinite(data))}
    for lane, planned in zip(data.lanes, plan.lanes, strict=False):
        found |= _lane_numbers(data.buckets, lane, planned, rate=plan.rate)
    if plan.loss is not None:
        found["loss"] = columns(data.buckets, data.loss, log=plan.loss.log)
        found["bad-loss"] = bad_columns(data.buckets, data.bad_loss)
    if plan.events:
        found["events"] = event_columns(data)
    if told:
        found["findings"] = _finding_columns(told)
    numbers: dict[str, Any] = {name: {"data": values} for name, values in found.items()}
    if plan.loss is not None and plan.loss.finite:
        numbers[LOSS_AXIS] = {"default_span": look.span_of(data.loss.high)}
    return numbers


def event_columns(data: Course) -> dict[str, list[Any]]:
    """What the source ``events`` holds: one entry a stretch of steps in which the same was done."""
    found: dict[str, list[Any]] = {"lane": [], "left": [], "right": [], "color": []}
    for key, name in EVENTS.items():
        hit = (
            np.any([lane.events[key] for lane in data.lanes], axis=0) if data.lanes else np.zeros(0, np.bool_)
        )
        left, right = _borders(data.buckets, hit)
        found["lane"] += [name] * len(left)
        found["left"] += left
        found["right"] += right
        found["color"] += [look.EVENT_COLORS[key]] * len(left)
    return found


def bad_columns(buckets: Buckets, hit: BoolArray) -> dict[str, list[float]]:
    """What the source ``bad`` holds: stretches of steps without a finite number."""
    left, right = _borders(buckets, hit)
    return {"left": left, "right": right}


def _lane_numbers(buckets: Buckets, lane: Lane, plan: LanePlan, *, rate: bool) -> dict[str, Any]:
    """One optimizer's; of a curve that is one line, that line alone."""
    found: dict[str, Any] = {f"norm-{lane.optimizer}": columns(buckets, lane.norm, log=True)}
    if plan.capped:
        found[f"cap-{lane.optimizer}"] = _only(columns(buckets, lane.cap, log=True), "middle")
    if rate:
        found[f"lr-{lane.optimizer}"] = _only(columns(buckets, lane.lr), "middle", "lone")
        if plan.lowered:
            found[f"used-lr-{lane.optimizer}"] = _only(columns(buckets, lane.used_lr), "low")
    return found


def _only(data: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: data[name] for name in ("step", *names)}


def _finding_columns(told: Sequence[Card]) -> dict[str, list[Any]]:
    return {
        "step": [float(card.step) for card in told],
        "lane": [FINDINGS] * len(told),
        "number": [str(card.place) for card in told],
        "title": [card.title for card in told],
        "color": [SEVERITY_COLORS[card.severity] for card in told],
        "ink": [SEVERITY_INKS[card.severity] for card in told],
    }


def _borders(buckets: Buckets, hit: BoolArray) -> tuple[list[float], list[float]]:
    edges = buckets.edges - 0.5
    both = stretches(hit)
    return [float(edges[a]) for a, _ in both], [float(edges[b]) for _, b in both]


def _nonfinite(data: Course) -> BoolArray:
    if not data.lanes:
        return np.zeros(data.buckets.count, np.bool_)
    hit: BoolArray = np.any([lane.events["nonfinite"] for lane in data.lanes], axis=0)
    return hit


def _reaches_above_zero(series: Envelope) -> bool:
    return bool(np.nanmax(series.high, initial=0.0) > 0)


def _differs(one: Envelope, other: Envelope) -> bool:
    return bool((np.nan_to_num(one.low) != np.nan_to_num(other.low)).any())
