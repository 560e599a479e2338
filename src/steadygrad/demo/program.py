"""``steadygrad demo``: train, compare, and say what to do next."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.syntax import Syntax
from rich.text import Text

from steadygrad.demo import snippet
from steadygrad.demo.arms import ARMS, GUARD
from steadygrad.demo.outcome import Outcome, judge
from steadygrad.demo.story import sentence
from steadygrad.demo.tables import table
from steadygrad.demo.training import train
from steadygrad.demo.workload import Workload
from steadygrad.errors import SteadygradError
from steadygrad.records import Finding

PIPED_WIDTH = 110
"""Columns where there is no terminal to ask: wide enough for a row of the table."""

TUNED = (
    "To be fair: another number would have made clip_grad_norm_ work for the text (about 1,000) and the digits (about "
    "100). Finding it takes runs like these; the guard was given none. No number helps against the table's NaN."
)
"""What a search over powers of ten finds, with seed 0."""


def run_demo(out: Path, seed: int, quick: bool) -> None:  # noqa: FBT001 - the command passes it on
    """Train three networks that explode on real data, three ways each, and print what became of them.

    About a minute on two cores. Nothing is downloaded: the data comes with Python and scikit-learn.

    Args:
        out: folder for the run files; made if it doesn't exist.
        seed: of the initial weights, the order of the data and the faulty cells.
        quick: train for a few seconds only, too few steps to learn much.

    Raises:
        SteadygradError: scikit-learn isn't installed.
        RunFileError: the run files can't be written.
    """
    workloads = _workloads(seed, quick=quick)
    screen = _screen()
    _say(screen, "Three networks that explode, on real data, each trained three ways:", style="bold")
    _say(screen, f"the same first weights and the same order of data in every row (seed {seed}).")
    if quick:
        _say(screen, "Quick: a few steps only, too few to learn much.", style="yellow")
    outcomes = [
        outcome
        for number, one in enumerate(workloads, 1)
        for outcome in _show(screen, number, one, seed, out)
    ]
    screen.print()
    _say(screen, TUNED)
    _show_snippet(screen)
    _show_runs(screen, outcomes)


def _workloads(seed: int, *, quick: bool) -> list[Workload]:
    if find_spec("sklearn") is None:
        raise SteadygradError(
            "The demo trains on data sets that come with scikit-learn, which isn't installed. Install it with: "
            "pip install scikit-learn"
        )
    from steadygrad.demo.digits_cnn import DigitsCNN  # noqa: PLC0415 - needs scikit-learn
    from steadygrad.demo.table_regression import TableRegression  # noqa: PLC0415 - needs scikit-learn
    from steadygrad.demo.text_rnn import TextRNN  # noqa: PLC0415 - loads the text

    return [TextRNN(quick=quick), DigitsCNN(quick=quick), TableRegression(seed, quick=quick)]


def _show(screen: Console, number: int, workload: Workload, seed: int, out: Path) -> list[Outcome]:
    screen.print()
    _say(screen, f"{number}. {workload.title}", style="bold")
    _say(screen, workload.setting)
    outcomes = []
    with _progress(screen) as progress:
        bars = [progress.add_task(arm.label, total=workload.steps, start=False) for arm in ARMS]
        for arm, bar in zip(ARMS, bars, strict=True):
            progress.start_task(bar)
            training = train(workload, arm, seed, out, on_step=partial(progress.advance, bar))
            progress.update(bar, total=len(training.norms))
            outcomes.append(judge(training))
    screen.print()
    screen.print(table(outcomes))
    screen.print()
    _say(screen, f"Loss in {workload.unit}; a constant guess gets {workload.guess:.2f}.", style="dim")
    for outcome in outcomes:
        _say(screen, f"- {sentence(outcome)}")
    return outcomes


def _show_snippet(screen: Console) -> None:
    screen.print()
    _say(
        screen,
        "Last, eight lines that run without a complaint and train nothing, under sg.watch:",
        style="bold",
    )
    code = Syntax(
        snippet.watched().rstrip(), "python", theme="ansi_dark", background_color="default", word_wrap=True
    )
    screen.print(Padding(code, (1, 2), expand=False))
    for finding in snippet.findings():
        _say(screen, str(finding), style="red" if finding.severity == "error" else "yellow")
        for line in _advice(finding):
            screen.print(Padding(Text(line), (0, 0, 0, 2), expand=False))


def _advice(finding: Finding) -> Iterator[str]:
    yield from (f"cause: {cause}" for cause in finding.causes[:1])
    yield from (f"try: {remedy}" for remedy in finding.remedies[:2])


def _show_runs(screen: Console, outcomes: Sequence[Outcome]) -> None:
    recorded = [one.training for one in outcomes if one.training.run is not None]
    if not recorded:
        return
    screen.print()
    _say(screen, "Every step of every tensor is recorded in", style="bold")
    for training in recorded:
        screen.print(Text(f"  {training.run}"), soft_wrap=True)
    guarded = [training for training in recorded if training.arm is GUARD]
    _say(screen, "Next:", style="bold")
    screen.print(Text(f"  steadygrad explain {(guarded or recorded)[0].run}"), soft_wrap=True)


def _say(screen: Console, text: str, style: str = "") -> None:
    screen.print(Text(text, style=style))


def _screen() -> Console:
    """A console that never reads names as markup, and is wide enough where its output is piped."""
    piped = not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit()
    return Console(width=PIPED_WIDTH if piped else None, markup=False, emoji=False, highlight=False)


@contextmanager
def _progress(screen: Console) -> Iterator[Progress]:
    """Bars while training that leave nothing behind; none where nobody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=not sys.stdout.isatty()) as progress:
        yield progress
