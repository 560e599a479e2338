"""Where runs lie, and how a command line names one."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import click

RUNS_FOLDER = Path("steadygrad-runs")
SUFFIX = ".steady"
MOST_CHOICES = 8


def find_run(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    """Turn a run as it was typed into the path of its file; a callback for `click.argument`.

    A run is named by its path, or by its name in the default folder: ``explain rnn-guard`` finds
    ``steadygrad-runs/rnn-guard.steady``.

    Args:
        ctx: the command.
        param: its argument.
        value: what was typed.

    Returns:
        The path of a file that exists.

    Raises:
        BadParameter: there is no such file.
    """
    found = next((path for path in _places(value) if path.is_file()), None)
    if found is None:
        message = f"There is no run {value!r} here or in {RUNS_FOLDER}/. {_hint(Path(value))}"
        raise click.BadParameter(message, ctx, param)
    return found


def find_story(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    """The same, and a folder that holds one run, or one training on several ranks: of that the first rank's file.

    Args:
        ctx: the command.
        param: its argument.
        value: what was typed.

    Returns:
        The path of a file that exists.

    Raises:
        BadParameter: there is no such file, or a folder holds none or several.
    """
    here, inside, named = _places(value)
    folder = next((path for path in (here, inside) if path.is_dir()), None)
    if folder is None or here.is_file() or named.is_file():
        return find_run(ctx, param, value)
    from steadygrad.runfile.rank_files import trainings_in

    groups, runs = trainings_in(folder)
    firsts = [next(iter(group.paths.values())) for group in groups] + [Path(run.path) for run in runs]
    if len(firsts) == 1:
        return firsts[0]
    message = (
        f"No runs in {folder}." if not firsts else f"{folder} holds {len(firsts)} runs. {_choices(firsts)}"
    )
    raise click.BadParameter(message, ctx, param)


def _places(value: str) -> tuple[Path, Path, Path]:
    """Where a run that was typed may lie, the likeliest first."""
    return Path(value), RUNS_FOLDER / value, RUNS_FOLDER / f"{value}{SUFFIX}"


def _choices(paths: list[Path]) -> str:
    from steadygrad.report.wording import some

    shown = some([path.name for path in paths], MOST_CHOICES)
    return f"Name one of them: {shown}. Of several ranks any one's file tells of all that lie beside it."


def find_or_await(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    """Turn what was typed into a run file or a folder of runs, also one that isn't there yet.

    Args:
        ctx: the command.
        param: its argument.
        value: what was typed.

    Returns:
        The run or folder that exists, by path or by name in the default folder; else the path as typed.
    """
    del ctx, param
    return next((path for path in _places(value) if path.exists()), Path(value))


def _hint(typed: Path) -> str:
    if typed.is_dir():
        return f"It is a folder: `steadygrad runs {typed}` lists what is in it."
    names = [path.stem for path in RUNS_FOLDER.glob(f"*{SUFFIX}")]
    near = get_close_matches(typed.stem, names, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return "`steadygrad runs` lists them." if names else "`steadygrad demo` records some."
