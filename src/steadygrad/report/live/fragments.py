"""The words of a live page in parts: each can be put in place of the one that is shown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from steadygrad.records import SEVERITIES
from steadygrad.report.page.content import Content
from steadygrad.report.page.document import page_template
from steadygrad.report.vitals import Vitals, state
from steadygrad.report.wording import duration, moment, number
from steadygrad.runfile import Run, RunSummary


def run_fragments(words: Content) -> dict[str, str]:
    """What changes with the run's steps.

    Args:
        words: of a `steadygrad.report.live.drawing.Drawing`.

    Returns:
        HTML by the key of its place; whatever came from the file is escaped.
    """
    keys = ("head", "marks", "findings", "incidents")
    return {key: _render(f"live_{key}.html", page=words) for key in keys}


def state_fragment(run: Run | None, vitals: Vitals | None, fault: str, now_s: float) -> str:
    """What changes with time: the newest step, and how old it is.

    Args:
        run: the run; None where there is none to be read.
        vitals: its newest numbers; None likewise.
        fault: why its file can't be read.
        now_s: seconds since the epoch.

    Returns:
        HTML.
    """
    if run is None or vitals is None:
        return _render("live_state.html", state="waiting", numbers=(), fault=fault)
    kind = state(finished=run.finished, started=run.info.started, last_written=run.last_written, now_s=now_s)
    return _render(
        "live_state.html", state=kind, numbers=tuple(_numbers(run, vitals, kind, now_s)), fault=fault
    )


def runs_fragment(runs: Sequence[RunSummary], folder: str, shown: str | None, now_s: float) -> str:
    """The list of runs.

    Args:
        runs: those that are served.
        folder: where they are.
        shown: path of the run this page is about.
        now_s: seconds since the epoch.

    Returns:
        HTML.
    """
    rows = [_row(run, shown, now_s) for run in runs]
    return _render("live_runs.html", runs=rows, folder=folder)


def _numbers(run: Run, vitals: Vitals, kind: str, now_s: float) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for newest in vitals.newest:
        which = f"step of optimizer {newest.optimizer}" if len(vitals.newest) > 1 else "step"
        found.append((which, f"{newest.step:,}"))
    if run.loss_logged.any():
        found.append(("loss", number(vitals.loss)))
    for newest in vitals.newest[:1]:
        found.append(("total norm", number(newest.total_norm)))
        found.append(("cap", "none" if np.isnan(newest.cap) else number(newest.cap)))
        if newest.steps_per_s > 0:
            found.append(("steps/s", number(newest.steps_per_s)))
    if kind != "finished":
        found.append(("newest step", f"{duration(max(now_s - vitals.last_step_s, 0.0))} ago"))
    return found


def _row(run: RunSummary, shown: str | None, now_s: float) -> Mapping[str, Any]:
    return {
        "file": Path(run.path).name,
        "link": quote(os.fsencode(Path(run.path).name)),
        "here": run.path == shown,
        "state": state(
            finished=run.finished, started=run.started, last_written=run.last_written, now_s=now_s
        ),
        "steps": f"{run.steps:,}",
        "norm": number(run.last_total_norm) if run.steps else "",
        "findings": [(one, run.findings[one]) for one in reversed(SEVERITIES) if run.findings.get(one)],
        "started": moment(run.started),
    }


def _render(template: str, **values: Any) -> str:
    return page_template(template).render(**values).encode("utf-8", "backslashreplace").decode()
