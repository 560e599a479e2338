"""New numbers into pictures that a browser already shows.

Pictures are drawn anew and compared with those that are shown: where they are built alike, only the
numbers of their sources are sent. So nothing here knows what is drawn, or how.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from bokeh.models import Column, ColumnDataSource, FactorRange, Model, Range1d, Select, Slider
from bokeh.models.plots import Plot

STEPS = "steps"


def build_of(models: Iterable[Model]) -> tuple[Any, ...]:
    """How pictures are built, leaving out their numbers: two of one build can share sources.

    Args:
        models: the pictures.

    Returns:
        Something to compare.
    """
    return tuple(_plot_build(plot) for model in models for plot in _plots(model))


def _plot_build(plot: Plot) -> tuple[Any, ...]:
    factors = tuple(plot.y_range.factors) if isinstance(plot.y_range, FactorRange) else ()
    sources = sorted(str(source.name) for source in _sources(plot))
    labels = tuple(str(item.label) for legend in plot.legend for item in legend.items)
    return plot.name, type(plot.y_scale).__name__, factors, len(plot.renderers), sources, labels


def graft(shown: Sequence[Model], drawn: Sequence[Model]) -> None:
    """Give the pictures that are shown the numbers of those just drawn, where they differ.

    Args:
        shown: pictures in a document.
        drawn: others of the same build.
    """
    for old, new in zip(_each_source(shown), _each_source(drawn), strict=True):
        if not _same(old.data, new.data):
            old.data = dict(new.data)


def replace_children(shown: Column, drawn: Column, steps: Range1d) -> None:
    """Put a picture with controls of its own in place of the one that is shown, as the reader left it.

    Args:
        shown: the layout in a document.
        drawn: one just drawn, with its own range of steps.
        steps: the range that all pictures in the document share.
    """
    for plot in _plots(drawn):
        if getattr(plot.x_range, "name", None) == STEPS:
            plot.x_range = steps
    for old, new in zip(_all(shown, Select), _all(drawn, Select), strict=False):
        if old.value in [choice[0] for choice in new.options]:
            new.value = old.value
    for old, new in zip(_plots(shown), _plots(drawn), strict=False):
        if old.tags and isinstance(old.tags[0], dict) and new.tags:
            new.tags = [{key: value for key, value in old.tags[0].items() if key != "ready"}]
    shown.children = list(drawn.children)


def chosen_steps(shown: Column, drawn: Column) -> list[tuple[Slider, int]]:
    """What sliders of a picture just drawn are to be moved to once it is shown, so that a reader's choice stays.

    A reader who hasn't chosen goes on seeing the step that a picture begins with.

    Args:
        shown: the layout in a document.
        drawn: one just drawn.

    Returns:
        Sliders of ``drawn`` and their values: the chosen step, or the nearest one there is now.
    """
    found = []
    for old, new in zip(_all(shown, Slider), _all(drawn, Slider), strict=False):
        if not old.tags or not new.tags or old.value == old.tags[0]["shown"]:
            continue
        at, wanted = old.tags[0].get("kept", (-1, 0))
        if old.value != at:
            wanted = old.tags[0]["steps"][int(old.value)]
        steps = new.tags[0]["steps"]
        at = min(range(len(steps)), key=lambda place: abs(steps[place] - wanted))
        # What was asked for, and not what was nearest to it: else a choice would drift with each drawing.
        new.tags = [{**new.tags[0], "kept": (at, wanted)}]
        found.append((new, at))
    return found


def move_steps(shown: Range1d, whole: Range1d) -> None:
    """Let the range of steps grow with the run.

    A reader who sees all steps goes on seeing all; one who zoomed in up to the newest step keeps the zoom
    and follows; one who looks at older steps is left alone.

    Args:
        shown: the range in the document.
        whole: one that holds all steps there are now.
    """
    old_start, old_end = shown.bounds or (shown.start, shown.end)
    start, end = shown.start, shown.end
    at_end = end >= old_end
    all_seen = at_end and start <= old_start
    shown.bounds, shown.tags = (whole.start, whole.end), whole.tags
    shown.reset_start, shown.reset_end = whole.start, whole.end
    if all_seen:
        shown.start, shown.end = whole.start, whole.end
    elif at_end:
        shown.start, shown.end = start + whole.end - end, whole.end


def _each_source(models: Iterable[Model]) -> list[ColumnDataSource]:
    found = [source for model in models for plot in _plots(model) for source in _sources(plot)]
    return list({source.id: source for source in found}.values())


def _sources(plot: Plot) -> list[ColumnDataSource]:
    """In the order of what is drawn from them, which is the same in two pictures of one build."""
    found = [getattr(renderer, "data_source", None) for renderer in plot.renderers]
    return [source for source in found if isinstance(source, ColumnDataSource)]


def _plots(model: Model) -> list[Plot]:
    return _all(model, Plot)


def _all(model: Model, kind: type[Any]) -> list[Any]:
    """Models of a kind in the order of the layout; ``select`` knows no order."""
    if isinstance(model, kind):
        return [model]
    children = getattr(model, "children", [])
    return [found for child in children for found in _all(child, kind)]


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    if one.keys() != other.keys():
        return False
    return all(_equal(one[key], other[key]) for key in one)


def _equal(one: Any, other: Any) -> bool:
    left, right = np.asarray(one), np.asarray(other)
    if left.shape != right.shape:
        return False
    if left.dtype.kind == "f" and right.dtype.kind == "f":
        return bool(np.array_equal(left, right, equal_nan=True))
    return bool(np.array_equal(left, right))
