"""Pictures of all tensors: drawn again now and then, by another thread, and put in place of those shown."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence

from bokeh.document import Document
from bokeh.models import Column, Range1d, Slider

from steadygrad.report.live.graft import build_of, chosen_steps, graft, replace_children
from steadygrad.report.page.sections import Section, sections
from steadygrad.runfile import Run
from steadygrad.runfile.following import DAMAGE

LEAST_S, SHARE = 5.0, 20.0
"""They are drawn at most every 5 s, and at most a twentieth of the time: a long run takes a second or two."""


class Redrawer:
    """The pictures of one tab that read the norms of all tensors.

    Args:
        document: the tab's document.
        shown: its sections, without the course.
        submit: has work done by another thread.
        version: of the run they show.
    """

    def __init__(
        self,
        document: Document,
        shown: Sequence[Section],
        submit: Callable[[Callable[[], None]], object],
        version: int,
    ) -> None:
        self._document, self._submit = document, submit
        self._shown = {part.key: part for part in shown}
        # What the first drawing takes is mostly imports, and says nothing of the next.
        self._version, self._cost_s = version, 0.0
        self._done_s = time.monotonic()
        self._busy = False
        self._drawn: list[Section] | None = None

    def tick(self, run: Run, version: int, steps: Range1d | None) -> bool:
        """Show what the thread has drawn, and have the run drawn when it is time.

        Args:
            run: the run as last read.
            version: its version.
            steps: the range of steps that the pictures share.

        Returns:
            False where there are other pictures now than those the page has room for.
        """
        drawn, self._drawn = self._drawn, None
        fits = True if drawn is None else self._show(drawn, steps)
        due = time.monotonic() - self._done_s >= max(LEAST_S, SHARE * self._cost_s) or run.finished
        if due and not self._busy and version != self._version:
            self._busy, self._version = True, version
            # A run as it is now: what is read from here on doesn't change this one.
            still = copy.copy(run)
            self._submit(lambda: self._draw(still))
        return fits

    def _draw(self, run: Run) -> None:
        """The other thread's part: pictures that are in no document yet."""
        begun = time.thread_time()
        try:
            self._drawn = sections(run, (), run.findings)
        except DAMAGE:
            self._drawn = None
        finally:
            self._done_s = time.monotonic()
            self._cost_s, self._busy = time.thread_time() - begun, False

    def _show(self, drawn: Sequence[Section], steps: Range1d | None) -> bool:
        found = {part.key: part for part in drawn if part.key != "course"}
        if found.keys() != self._shown.keys():
            return False
        chosen: list[tuple[Slider, int]] = []
        self._document.hold("combine")
        try:
            for key, part in self._shown.items():
                chosen += _renew(part, found[key], steps)
        finally:
            self._document.unhold()
        # Only a change of what a browser already shows has it draw the chosen step.
        for slider, at in chosen:
            slider.value = at
        return True


def _renew(shown: Section, drawn: Section, steps: Range1d | None) -> list[tuple[Slider, int]]:
    """New numbers into one section; gives the sliders to be moved once they are shown."""
    chosen: list[tuple[Slider, int]] = []
    for old, new in zip(shown.models, drawn.models, strict=False):
        if isinstance(old, Column) and isinstance(new, Column) and steps is not None:
            chosen += chosen_steps(old, new)
            replace_children(old, new, steps)
        elif build_of([old]) == build_of([new]):
            graft([old], [new])
    return chosen
