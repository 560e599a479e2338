"""Growth through time as fitted, from the findings alone: for a run whose file keeps no norms through time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from bokeh.models import DataRange1d, Span
from bokeh.plotting import figure

from steadygrad.records import Finding
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.sketch import Numbers, Sketch, source
from steadygrad.report.wording import number, visible

KINDS = ("exploding_in_time", "vanishing_in_time")
COLORS = (look.BLUE, look.RED, look.GREEN, look.PURPLE)
FLOAT32_EPS = 2.0**-23
_NEEDED = ("gain per time step", "time steps", "horizon")


def fitted_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Findings that hold what the picture needs, at most four."""
    fit = [one for one in findings if one.kind in KINDS and all(key in one.evidence for key in _NEEDED)]
    return [one for one in fit if _sound(one)][: len(COLORS)]


def fitted_time_sketch(findings: Sequence[Finding]) -> Sketch | None:
    """Prepare the picture of the fitted growth through time.

    Args:
        findings: of the run; those of `KINDS` are drawn.

    Returns:
        Relative gradient norm over time steps, the last at the right; None where none was found.
    """
    known = fitted_findings(findings)
    if not known:
        return None
    plan = _Fitted(tuple(map(_label, known)), any(one.kind == "vanishing_in_time" for one in known))
    numbers = {f"fitted {i}": {"data": _points(one)} for i, one in enumerate(known)}
    return Sketch(plan, numbers, lambda _: (_figure(plan, numbers),))


class _Fitted(NamedTuple):
    """One line a finding, and whether what float32 still hears is marked."""

    labels: tuple[str, ...]
    floor: bool


def _figure(plan: _Fitted, numbers: Numbers) -> figure:
    plot = look.picture("through time", 240, DataRange1d(flipped=True), y_axis_type="log")
    plot.yaxis.axis_label = "relative to the last step"
    plot.xaxis.axis_label = "time steps before the last that the loss reads"
    for i, (label, color) in enumerate(zip(plan.labels, COLORS, strict=False)):
        points = source(numbers, f"fitted {i}")
        plot.line("back", "size", source=points, line_color=color, line_width=2, legend_label=label)
    if plan.floor:
        plot.add_layout(Span(location=FLOAT32_EPS, line_color=look.GREY, line_dash=[4, 3]))
    look.legend_above(plot)
    return plot


def _label(finding: Finding) -> str:
    place = visible(finding.where[0]) if finding.where else "the model"
    gain = number(finding.evidence["gain per time step"])
    return f"{place}, step {finding.step:,}: x{gain} per time step"


def _points(finding: Finding) -> dict[str, Any]:
    gain, count = finding.evidence["gain per time step"], int(finding.evidence["time steps"])
    back = np.unique(np.linspace(0, count - 1, min(count, 200)).astype(np.int64))
    logs = np.clip(back * np.log10(gain), -300.0, 300.0)
    return {"back": back, "size": 10.0**logs}


def _sound(finding: Finding) -> bool:
    gain, count, _ = (finding.evidence[key] for key in _NEEDED)
    return bool(np.isfinite(gain) and gain > 0 and np.isfinite(count) and 2 <= count < 1e9)
