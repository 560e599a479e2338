"""New numbers into pictures that a browser already shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import Range1d

from steadygrad.report.page.sections import Draft

_ANY: dict[str, Any] = {"no property": None}


class Shown:
    """One section in a document.

    Args:
        draft: what it shows first.
        steps: the range of steps that all pictures of the document share.

    Attributes:
        draft: what it shows now.
        section: its models, which stay.
    """

    def __init__(self, draft: Draft, steps: Range1d) -> None:
        self.draft, self.section = draft, draft.drawn(steps)
        numbers = draft.sketch.numbers
        found = {one for model in self.section.models for one in model.references()}
        # A picture may have the name of its source.
        self._models = {
            str(one.name): one for one in found if one.properties() >= numbers.get(str(one.name), _ANY).keys()
        }

    def fits(self, draft: Draft) -> bool:
        """Whether another draft of this section differs in its numbers alone."""
        return self.draft is draft or self.draft.sketch.plan == draft.sketch.plan

    def renew(self, draft: Draft) -> None:
        """Show the numbers of another draft, those that differ.

        Args:
            draft: one that fits.
        """
        before = self.draft.sketch.numbers
        for name, values in draft.sketch.numbers.items():
            model = self._models[name]
            for key, value in values.items():
                if not same(before[name][key], value):
                    setattr(model, key, value)
        self.draft = draft


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


def same(one: Any, other: Any) -> bool:
    """Whether two values of a sketch are equal: numbers, text, arrays, and lists and mappings of these.

    Example:
        >>> same({"norm": np.array([1.0, np.nan])}, {"norm": np.array([1.0, np.nan])})
        True
    """
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        inexact = one.dtype.kind == "f" and other.dtype.kind == "f"
        return bool(np.array_equal(one, other, equal_nan=inexact))
    if isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(type(one) is type(other) and one == other)
