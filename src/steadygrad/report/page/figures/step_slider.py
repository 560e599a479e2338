"""A slider over steps, with what the chosen one says beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import CustomJS, Div, Slider

from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.script import script


def step_slider(
    steps: Sequence[int], notes: Sequence[str], shown: int, args: Mapping[str, Any], code: str
) -> tuple[Slider, Div]:
    """Make the controls of a picture that shows one step at a time.

    Args:
        steps: the steps to choose from.
        notes: what each says in words.
        shown: index of the one to begin with.
        args: what ``code`` needs besides; it is told the chosen index as ``at``.
        code: name of the script that draws another step.

    Returns:
        The slider and the note below it.
    """
    note = Div(
        text=notes[shown], render_as_text=True, stylesheets=[look.CONTROL], css_classes=["note"],
        sizing_mode="stretch_width", margin=(0, 5, 5, look.LEFT),
    )  # fmt: skip
    slider = Slider(
        start=0, end=max(len(steps) - 1, 1), value=shown, step=1, show_value=False, max_width=460,
        sizing_mode="stretch_width", bar_color=look.BLUE,
        title=f"step {steps[shown]:,}" + (", choose another" if len(steps) > 1 else ", the only one"),
        disabled=len(steps) < 2, margin=(5, 5, 0, look.LEFT), stylesheets=[look.CONTROL],
        tags=[{"steps": list(map(int, steps)), "shown": shown}],
    )  # fmt: skip
    known = {"slider": slider, "note": note, "steps": [float(step) for step in steps], "notes": list(notes)}
    slider.js_on_change("value", CustomJS(args={**args, **known}, code=f"{_BEGIN}\n{script(code)}\n{_END}"))
    return slider, note


_BEGIN = "const at = slider.value"
_END = """
note.text = notes[at]
slider.title = `step ${steps[at].toLocaleString("en")}, choose another`
"""
