"""Two runs side by side: where they part, in words and on the same axes."""

from __future__ import annotations

from typing import Any

from steadygrad.report.page.data.buckets import buckets
from steadygrad.report.page.data.contrast import contrast
from steadygrad.report.page.data.course import MOST_COLUMNS, course
from steadygrad.report.page.data.parting import Moment, Parting
from steadygrad.report.page.data.words import course_words
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.contrast import contrast_map
from steadygrad.report.page.figures.pair import pair_figures
from steadygrad.report.page.sections import Section
from steadygrad.report.wording import number, plural, visible
from steadygrad.runfile import Run


def pair_sections(one: Run, other: Run, parted: Parting) -> list[Section]:
    """Draw two runs on the same axes.

    Args:
        one: the first run, A.
        other: the second, B.
        parted: where they part.

    Returns:
        Both courses, and how the norm of every tensor differs.
    """
    columns = buckets((one, other), MOST_COLUMNS)
    steps = look.step_range(columns)
    courses = [course(run, columns) for run in (one, other)]
    names = [f"A: {visible(one.info.name)}", f"B: {visible(other.info.name)}"]
    mark = parted.twofold or parted.first
    drawn = pair_figures(courses, names, steps, mark.step if mark else None)
    words = " ".join(f"{letter}: {course_words(data)}" for letter, data in zip("AB", courses, strict=True))
    hint = f"{_COURSE} {_MARK if mark else ''} {_ZOOM}"
    found = [Section("course", "Both courses", hint, words, tuple(drawn))] if drawn else []
    if parted.shared_tensors and one.steps.size and other.steps.size:
        picture = contrast(one, other)
        told = told_apart(parted)["sentence"]
        found.append(Section("contrast", "B relative to A", _CONTRAST, told, (contrast_map(picture, steps),)))
    return found


def told_apart(parted: Parting) -> dict[str, Any]:
    """Where two runs part, in words.

    Args:
        parted: where they part.

    Returns:
        ``sentence``, ``state`` (a colour), ``sign``, ``tables`` of the tensors that part first, and a ``note`` on
        models that aren't alike.
    """
    at_once = parted.first is not None and parted.first == parted.twofold
    moments = {
        "The first to differ": None if at_once else parted.first,
        "The first to differ twofold": parted.twofold,
    }
    tables = [_table(title, moment) for title, moment in moments.items() if moment is not None]
    alike = parted.first is None and parted.shared_tensors > 0 and parted.shared_steps > 0
    state, sign = ("healthy", "=") if alike else ("info", "≠") if parted.first else ("empty", "?")
    return {
        "sentence": _sentence(parted),
        "state": state,
        "sign": sign,
        "tables": tables,
        "note": _note(parted),
    }


def _note(parted: Parting) -> str:
    """What to bear in mind where the models aren't alike."""
    notes = []
    if parted.shared_tensors and any(parted.alone):
        more = [
            f"{letter} has {count:,} more" for letter, count in zip("AB", parted.alone, strict=True) if count
        ]
        notes.append(
            f"Compared by name: {plural(parted.shared_tensors, 'tensor')} that both have; {', '.join(more)}."
        )
    if parted.reshaped:
        told = plural(parted.reshaped, "tensor")
        notes.append(f"Of another shape in B, so that norms differ from the start: {told}.")
    return " ".join(notes)


def _sentence(parted: Parting) -> str:
    if not parted.shared_tensors:
        return "The runs have no tensor of the same name: only their courses can be compared."
    if not parted.shared_steps:
        return "The runs have no step that both recorded one by one: only their courses can be compared."
    if parted.first is None:
        alike = f"{plural(parted.shared_steps, 'step')} and {plural(parted.shared_tensors, 'tensor')}"
        return f"The runs are alike in all {alike} that both recorded, to the precision of the record."
    first = f"The runs part at step {parted.first.step:,}, in {_which(parted.first, parted)}"
    if parted.twofold is None:
        return f"{first}; no tensor ever differs twofold."
    if parted.twofold.step == parted.first.step:
        return f"{first}, some of them twofold at once."
    return f"{first}; the first twofold difference is at step {parted.twofold.step:,}, in {_which(parted.twofold, parted)}."


def _which(moment: Moment, parted: Parting) -> str:
    if moment.count == parted.shared_tensors:
        return f"all {plural(moment.count, 'tensor')}"
    if moment.count == 1:
        return visible(moment.leaders[0].name)
    return f"{moment.count:,} of {plural(parted.shared_tensors, 'tensor')}, most in {visible(moment.leaders[0].name)}"


def _table(title: str, moment: Moment) -> dict[str, Any]:
    rows = [{"name": one.name, "one": _norm(one.one), "other": _norm(one.other)} for one in moment.leaders]
    more = "" if moment.count <= len(rows) else f", {len(rows)} of {moment.count:,}"
    order = ", largest difference first" if len(rows) > 1 else ""
    return {"title": f"{title}: step {moment.step:,}{more}{order}", "rows": rows}


def _norm(value: float) -> str:
    return "non-finite" if value != value else number(value)  # noqa: PLR0124 - NaN is the one that isn't itself


_COURSE = "A is blue, B is orange and dashed."
_MARK = "The vertical line is the first step at which they differ twofold, or at all."
_ZOOM = "Drag to zoom into steps, double-click or press 0 for all of them."
_CONTRAST = (
    "One row a tensor, the input at the top. Orange: the norm is larger in B; purple: smaller. Red: exactly one of them is "
    "non-finite. Grey: not in both."
)
