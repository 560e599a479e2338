"""From a run to its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from bokeh.layouts import column
from bokeh.models import Column

from steadygrad.records import Finding
from steadygrad.report.judging import judge
from steadygrad.report.page.content import Content, content
from steadygrad.report.page.data.parting import parting
from steadygrad.report.page.document import html
from steadygrad.report.page.pair import pair_sections, told_apart
from steadygrad.report.page.sections import Section, sections
from steadygrad.report.wording import moment
from steadygrad.runfile import Run


def render(
    run: Run,
    findings: Sequence[Finding] | None = None,
    made_at: float = 0.0,
    ranks: Sequence[Run] = (),
) -> str:
    """Make the page of one run.

    Args:
        run: the run; it may still be written.
        findings: what to tell instead of the findings that were recorded; see `steadygrad.report.judge`.
        made_at: seconds since the epoch, for the foot of the page; 0 leaves it out.
        ranks: the run files of all ranks, this one among them, where there are several.

    Returns:
        One HTML file that needs no other.
    """
    words, pictures = page(run, findings, ranks)
    return html("report.html", {**words, "made": moment(made_at)}, pictures)


def page(
    run: Run, findings: Sequence[Finding] | None = None, ranks: Sequence[Run] = ()
) -> tuple[dict[str, Any], list[Section]]:
    """Words and pictures of one run, for `steadygrad.report.page.document`.

    Args:
        run: the run.
        findings: what to tell; None tells what was recorded.
        ranks: as for `render`.

    Returns:
        What the template ``report.html`` says, and its sections.
    """
    told = run.findings if findings is None else tuple(findings)
    words = content(run, told)
    named = {"title": f"{words.name}: steadygrad report", "paths": [words.path], "made": ""}
    return {**_as_dict(words), **named}, sections(run, words.cards, told, ranks)


def render_pair(one: Run, other: Run, made_at: float = 0.0, *, anew: bool = False) -> str:
    """Make the page that compares two runs.

    Args:
        one: the first run, A.
        other: the second, B.
        made_at: seconds since the epoch, for the foot of the page; 0 leaves it out.
        anew: judge both again instead of telling the recorded findings.

    Returns:
        One HTML file that needs no other.
    """
    sides = [
        {**_as_dict(content(run, judge(run) if anew else run.findings)), "letter": letter}
        for letter, run in (("A", one), ("B", other))
    ]
    parted = parting(one, other)
    name = f"{one.info.name} and {other.info.name}"
    words = {
        "name": name,
        "title": f"{name}: steadygrad report",
        "paths": [one.path, other.path],
        "made": moment(made_at),
        "sides": sides,
        "parting": told_apart(parted),
    }
    return html("pair.html", words, pair_sections(one, other, parted))


def plot(run: Run) -> Column:
    """The pictures of a run below one another, for a notebook.

    Args:
        run: the run.

    Returns:
        All that `steadygrad report` draws: those the file has numbers for.
    """
    words = content(run, run.findings)
    pictures = sections(run, words.cards, run.findings)
    return column([model for part in pictures for model in part.models], sizing_mode="stretch_width")


def _as_dict(words: Content) -> dict[str, Any]:
    return {field.name: getattr(words, field.name) for field in fields(words)}
