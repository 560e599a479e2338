"""A run draws itself: by the floor above, which is only imported when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steadygrad.framework import require

if TYPE_CHECKING:
    from steadygrad.runfile.reader import Run

OLDEST_BOKEH = "3.7"


def plot(run: Run) -> Any:
    """The pictures of a run as a Bokeh layout.

    Args:
        run: the run.

    Returns:
        The layout.

    Raises:
        FrameworkMissing: Bokeh isn't installed, or too old.
    """
    require("bokeh", OLDEST_BOKEH, extra="report")
    from steadygrad.report.page import plot as draw  # noqa: PLC0415 - drawn by the floor above

    return draw(run)
