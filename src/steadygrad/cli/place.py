"""Where runs lie, and how a command line names one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

RUNS_FOLDER = Path("steadygrad-runs")
SUFFIX = ".steady"
MOST_CHOICES = 8


class GivenPath(click.Path):
    """A path on a command line; in ``--output=~/a.csv`` a shell leaves the tilde as it is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, ``~`` being the home folder."""
        given = os.path.expanduser(value)  # noqa: PTH111 - Path.expanduser raises for a ~name that is nobody's
        return super().convert(given, param, ctx)


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
        typed = _places(value)[0]
        message = (
            f"{typed} is a folder; expected a run file. `steadygrad runs {typed}` lists what is in it."
            if typed.is_dir()
            else f"There is no run {value!r} here or in {RUNS_FOLDER}/. {_hint(typed)}"
        )
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
        f"No runs in {folder}. Name a run file, or a folder with one."
        if not firsts
        else f"{folder} holds {len(firsts)} runs. {_choices(firsts)}"
    )
    if groups and firsts:
        message += " Of several ranks any one's file tells of all that lie beside it."
    raise click.BadParameter(message, ctx, param)


def refuse_foreign(place: Path) -> None:
    """Say at once that a file is no run; what isn't there yet, or was begun just now, may become one.

    Args:
        place: a run file or a folder.

    Raises:
        RunFileError: the file holds something else.
    """
    if place.is_file() and place.stat().st_size:
        from steadygrad.runfile import open_run

        open_run(place).close()


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Write beside the target and put it in place when it is whole: somebody may be reading it.

    Args:
        target: the file.

    Yields:
        The path to write to.

    Raises:
        ClickException: it can't be written.
    """
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(target)
    except OSError as error:
        raise click.ClickException(cant_write(target, error)) from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def cant_write(target: Path, error: OSError) -> str:
    """Name what was to be written, and not the file beside it or the one in it that failed."""
    return f"Can't write {target} ({error.strerror or error}). Choose another place with -o."


def _places(value: str) -> tuple[Path, Path, Path]:
    """Where a run that was typed may lie, the likeliest first."""
    value = os.path.expanduser(value)  # noqa: PTH111 - as above
    return Path(value), RUNS_FOLDER / value, RUNS_FOLDER / f"{value}{SUFFIX}"


def _choices(paths: list[Path]) -> str:
    from steadygrad.report.wording import some

    shown = some([str(_typed(path)) for path in paths], MOST_CHOICES)
    return f"Name one of them: {shown}."


def _typed(path: Path) -> Path:
    """A path as one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


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
    return next((path for path in _places(value) if path.exists()), _places(value)[0])


def _hint(typed: Path) -> str:
    names = [path.stem for path in RUNS_FOLDER.glob(f"*{SUFFIX}")]
    near = get_close_matches(typed.stem, names, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return "`steadygrad runs` lists them." if names else "`steadygrad demo` records some."
