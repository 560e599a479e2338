"""The ``steadygrad`` command: its subcommands, its exit codes, its one-line errors.

Exit codes: 0 done, 1 it can't be done (or ``check`` found something, or the reader of a pipe left), 2 wrong
usage, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import click

from steadygrad import __version__
from steadygrad.cli.lazy import LazyGroup, Subcommand
from steadygrad.errors import SteadygradError

SUBCOMMANDS = {
    "demo": Subcommand("steadygrad.cli.demo", "Train three networks that explode: plain, clipped, guarded."),
    "run": Subcommand("steadygrad.cli.run", "Run an unmodified script, watched or guarded."),
    "check": Subcommand("steadygrad.cli.check", "Look at a training before it begins."),
    "runs": Subcommand("steadygrad.cli.runs", "List the runs in a folder."),
    "explain": Subcommand(
        "steadygrad.cli.explain", "Tell what happened in a run, where, why, what to change."
    ),
    "live": Subcommand("steadygrad.cli.live", "Look at runs while they are written."),
    "report": Subcommand("steadygrad.cli.report", "Write a run as one HTML page, or two runs side by side."),
    "replay": Subcommand(
        "steadygrad.cli.replay", "Make the step of an incident again, and try what would have helped."
    ),
    "export": Subcommand(
        "steadygrad.cli.export", "Write a run's numbers as CSV, Parquet or TensorBoard files."
    ),
}

program = LazyGroup(
    name="steadygrad",
    subcommands=SUBCOMMANDS,
    help="Keeps a PyTorch training run on course, and explains a run that left it.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
click.version_option(__version__, prog_name="steadygrad", message="%(prog)s %(version)s")(program)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command line and exit.

    Args:
        argv: the arguments after the program's name; None takes those of this process, and no
            argument at all asks for help.

    Raises:
        SystemExit: always, with the exit code.
    """
    before = _write_any_name()
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        code = program.main(args=args or ["--help"], prog_name="steadygrad", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.UsageError as error:
        said = error.format_message().rstrip()
        code = _fail(
            f"{said}{'' if said.endswith(('.', '?', '!')) else '.'} {_see_help(error.ctx)}", error.exit_code
        )
    except click.ClickException as error:
        code = _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        _drop_stdout()
        code = 1
    except (SteadygradError, OSError) as error:
        _drop_stdout()
        code = _fail(str(error), 1)
    if callable(code):
        # Somebody's script: its exceptions are its own, and so are its streams.
        _restore(before)
        code()
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    click.echo(f"steadygrad: error: {' '.join(message.split())}", err=True)
    return code


def _see_help(ctx: click.Context | None) -> str:
    return f"See `{ctx.command_path if ctx else 'steadygrad'} --help`."


def _write_any_name() -> list[tuple[Any, str | None]]:
    """Escape what the terminal's encoding can't show: a tensor's name must not end a command."""
    before: list[tuple[Any, str | None]] = []
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            before.append((stream, stream.errors))
            reconfigure(errors="backslashreplace")
    return before


def _restore(before: Iterable[tuple[Any, str | None]]) -> None:
    for stream, errors in before:
        stream.reconfigure(errors=errors)


def _drop_stdout() -> None:
    """Send what is still buffered nowhere, so that the interpreter's last flush can't fail again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):
        sys.stdout = None
