"""A slider over steps, with what the chosen one says beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, CustomJS, Div, Slider

from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.script import script


def choices(steps: Sequence[int], notes: Sequence[str], shown: int) -> dict[str, list[Any]]:
    """What the source of a `step_slider` holds of each step to choose from, besides what draws it.

    Args:
        steps: the steps.
        notes: what each says in words.
        shown: index of the one to begin with.

    Returns:
        Columns ``step``, ``note`` and ``shown``.

    Example:
        >>> choices([4, 9], ["calm", "not calm"], 1)
        {'step': [4.0, 9.0], 'note': ['calm', 'not calm'], 'shown': [False, True]}
    """
    return {
        "step": [float(step) for step in steps],
        "note": list(notes),
        "shown": [place == shown for place in range(len(steps))],
    }


def step_slider(every: ColumnDataSource, args: Mapping[str, Any], code: str) -> tuple[Slider, Div]:
    """Make the controls of a picture that shows one step at a time.

    Args:
        every: one entry a step: `choices`, and what ``code`` draws it from. Where its data are renewed, the browser
            shows the step that the reader chose, or the nearest to it that there is now; without a choice, the one
            to begin with.
        args: what ``code`` needs besides; it is told ``every`` too, and the chosen index as ``at``.
        code: name of the script that draws a step.

    Returns:
        The slider and the note below it.
    """
    steps, at = every.data["step"], every.data["shown"].index(True)
    note = Div(
        text=every.data["note"][at], render_as_text=True, stylesheets=[look.CONTROL], css_classes=["note"],
        sizing_mode="stretch_width", margin=(0, 5, 5, look.LEFT),
    )  # fmt: skip
    slider = Slider(
        start=0, end=max(len(steps) - 1, 1), value=at, step=1, show_value=False, max_width=460,
        sizing_mode="stretch_width", bar_color=look.BLUE,
        title=f"step {int(steps[at]):,}" + (", choose another" if len(steps) > 1 else ", the only one"),
        disabled=len(steps) < 2, margin=(5, 5, 0, look.LEFT), stylesheets=[look.CONTROL],
        name=f"{every.name} slider", tags=[{"wish": None, "at": at}],
    )  # fmt: skip
    known = {**args, "slider": slider, "note": note, "every": every}
    begin, end = script("step_slider.js").split("// The picture.\n")
    draw = f"{begin}{script(code)}{end}"
    slider.js_on_change("value", CustomJS(args={**known, "renewed": False}, code=draw))
    every.js_on_change("data", CustomJS(args={**known, "renewed": True}, code=draw))
    return slider, note
