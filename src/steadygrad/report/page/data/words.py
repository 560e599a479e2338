"""Every picture in words, for a reader who hears the page instead of seeing it."""

from __future__ import annotations

import numpy as np

from steadygrad.records import BoolArray
from steadygrad.report.page.data.buckets import Buckets, Float64Array
from steadygrad.report.page.data.course import EVENTS, Course
from steadygrad.report.page.data.depth import Snowball
from steadygrad.report.page.data.envelope import Envelope
from steadygrad.report.page.data.health import Health, Spent
from steadygrad.report.page.data.raster import LEAST, NONFINITE, Raster
from steadygrad.report.page.data.updates import Updates
from steadygrad.report.wording import layer, number, plural, some, visible


def course_words(data: Course) -> str:
    """Total norm, loss and rate from first to last step, and what happened on the way."""
    if not data.lanes:
        return "No step was recorded."
    parts = []
    for lane in data.lanes[:4]:
        which = f" of optimizer {lane.optimizer}" if len(data.lanes) > 1 else ""
        parts.append(
            _series(f"Total gradient norm{which}", data.buckets, lane.norm, lane.events["nonfinite"])
        )
        seen = [name for key, name in EVENTS.items() if lane.events[key].any()]
        parts += [f"Marked{which}: {', '.join(seen)}."] if seen else []
    if data.loss.finite:
        parts.append(_series("Loss", data.buckets, data.loss, data.bad_loss))
    return " ".join(parts)


def raster_words(picture: Raster) -> str:
    """How many tensors, between which norms, and which are the worst."""
    finite = picture.finite
    if not finite.any():
        return "No tensor has a finite gradient."
    known = np.where(finite, picture.cells, 0).max(axis=1)
    most = np.argsort(-known.astype(np.int64), kind="stable")[:3]
    names = [picture.tensors[i].name for i in most.tolist() if known[i] >= LEAST]
    bad = (picture.cells == NONFINITE).any(axis=1)
    lost = (
        f" Non-finite at some step: {some([t.name for t, b in zip(picture.tensors, bad, strict=True) if b])}."
        if bad.any()
        else ""
    )
    return f"Gradient norms of {plural(len(picture.tensors), 'tensor')}. Largest in {', '.join(map(visible, names))}.{lost}"


def snowball_words(data: Snowball) -> str:
    """The step whose stretch multiplies the gradient most, up or down."""
    sizes = [abs(float(np.log(one.factor))) if one.factor > 0 else 0.0 for one in data.profiles]
    if not any(np.isfinite(one.norms).any() for one in data.profiles):
        return "No weight has a finite gradient at any chosen step."
    sizes = [size if one.telling else 0.0 for size, one in zip(sizes, data.profiles, strict=True)]
    one = data.profiles[int(np.argmax(sizes))]
    if not one.telling:
        return f"Over {plural(len(data.names), 'weight')} the gradient neither grows nor shrinks tenfold from layer to layer at any chosen step."
    ends = f"from {visible(data.names[one.last])} back to {visible(data.names[one.first])}"
    return f"The largest change of all chosen steps: x{number(one.factor)} {ends}, at step {one.step:,}."


def updates_words(data: Updates) -> str:
    """The usual ratio, and the largest with its tensor."""
    at = int(np.argmax(data.most))
    return (
        f"Median update ratio {number(float(np.median(data.middle)))} over {plural(len(data.steps), 'measured step')}; "
        f"largest {number(float(data.most[at]))} in {visible(data.leader[at])} at step {int(data.steps[at]):,}."
    )


def health_words(data: Health) -> str:
    """The worst shares of dead and saturated units and the largest activation, each with its layer and step."""
    parts = []
    for name, what in (("dead", "dead units"), ("saturated", "saturated units")):
        shares = data.column(name)
        one = data.looks[int(np.argmax(np.nan_to_num(shares)))]
        share = 100 * np.nan_to_num(getattr(one, name))
        if not share:
            parts.append(f"No {what}.")
            continue
        where = layer(getattr(one, f"{name}_in"))
        parts.append(f"Most {what}: {share:.3g} % into {where} at step {one.step:,}.")
    sizes = data.column("largest")
    if np.isfinite(sizes).any():
        one = data.looks[int(np.argmax(np.where(np.isfinite(sizes), sizes, -1.0)))]
        parts.append(
            f"Largest activation {number(one.largest)} into {layer(one.largest_in)} at step {one.step:,}."
        )
    if data.bad_steps.size:
        parts.append(
            f"Not finite at {plural(data.bad_steps.size, 'look')}, first at step {data.bad_steps[0]:,}."
        )
    return f"{' '.join(parts)} {plural(len(data.looks), 'look')} in all."


def overhead_words(data: Spent, mean: float) -> str:
    """The mean, and the largest."""
    at = int(np.argmax(data.most))
    most = 100 * float(data.most[at])
    return f"{100 * mean:.2g} % of the time on average, {most:.2g} % at most, up to step {int(data.steps[at]):,}."


def _series(name: str, buckets: Buckets, series: Envelope, bad: BoolArray) -> str:
    known = np.flatnonzero(np.isfinite(series.middle))
    if not known.size:
        return f"{name}: never finite."
    peak = int(known[np.argmax(series.high[known])])
    first, last = (number(float(series.middle[known[i]])) for i in (0, -1))
    steps = np.ceil(buckets.edges).astype(np.int64)
    begin = f"first finite at step {steps[known[0]]:,}" if bad[: known[0]].any() else "at the beginning"
    lost = bad[known[-1] + 1 :].any()
    end = f"near step {steps[known[-1]]:,} and not finite after it" if lost else "at the end"
    return f"{name}: {first} {begin}, {last} {end}, largest {_largest(series.high, peak)} near step {steps[peak]:,}."


def _largest(high: Float64Array, peak: int) -> str:
    return number(float(high[peak]))
