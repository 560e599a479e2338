"""A picture before it is drawn: how it is built, and the numbers it shows.

A page that is written once draws it and is done. One that lives draws it once, and from then on gives the models it
drew the numbers that changed: building models is what costs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from bokeh.models import ColumnDataSource, UIElement

Numbers = Mapping[str, Mapping[str, Any]]
"""Values by the name of a model and that of its property: a source's ``data``, a range's ``start``."""


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """What a picture is, and what it shows.

    Attributes:
        plan: what decides which models there are; two pictures of one plan differ in their numbers alone.
        numbers: what changes while a run goes on; each name belongs to exactly one model of
            what is drawn that has such properties.
        draw: makes the models, given the range of steps that pictures share.
    """

    plan: Hashable
    numbers: Numbers
    draw: Callable[[Any], tuple[UIElement, ...]]


def source(numbers: Numbers, name: str) -> ColumnDataSource:
    """The source of this name, with the numbers a picture begins with.

    Args:
        numbers: those of its sketch.
        name: the source's.

    Returns:
        A new source.

    Example:
        >>> source({"loss": {"data": {"step": [0.0, 1.0]}}}, "loss").data["step"]
        [0.0, 1.0]
    """
    return ColumnDataSource(dict(numbers[name]["data"]), name=name)
