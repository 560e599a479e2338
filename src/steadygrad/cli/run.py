"""``steadygrad run script.py args...``: an unmodified script, watched or guarded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import click

from steadygrad.cli.place import RUNS_FOLDER, GivenPath
from steadygrad.errors import UsageError

# Flags of the interpreter, which people give to us by mistake.
_PYTHON_FLAGS = frozenset("bBdEiIOPRsSuvVWxX")


class _RunCommand(click.Command):
    """Splits the command line by hand: from the script's name on, every word is the script's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read our options only; keep the rest as it is, also ``--``."""
        own = self._own(args)
        ctx.meta[__name__] = _program(args[own:])
        return super().parse_args(ctx, args[:own])

    def _own(self, args: Sequence[str]) -> int:
        """How many words are ours."""
        valued = {
            name for p in self.params if isinstance(p, click.Option) and not p.is_flag for name in p.opts
        }
        position = 0
        while position < len(args):
            word = args[position]
            if word in {"-", "--"} or word.startswith("-m") or not word.startswith("-"):
                return position
            _check_not_pythons(word)
            position += 2 if word in valued else 1
        return len(args)


def _program(words: list[str]) -> list[str]:
    """The script's part, with ``-mpkg`` written as ``-m pkg``, which python takes too."""
    if words[:1] == ["--"]:
        return words[1:]
    if words and words[0].startswith("-m") and len(words[0]) > len("-m"):
        return ["-m", words[0][2:], *words[1:]]
    return words


def _check_not_pythons(word: str) -> None:
    if word == "-c":
        raise click.UsageError("there is no -c. Write the code to a file and run that.")
    if not word.startswith("--") and word[1:2] in _PYTHON_FLAGS:
        raise click.UsageError(
            f"{word} is a flag of python. Put it there: python {word} -m steadygrad run ..."
        )


@click.command(
    "run",
    cls=_RunCommand,
    short_help="Run an unmodified script, watched or guarded.",
    options_metavar="[OPTIONS] (SCRIPT | -m MODULE) [ARGS]...",
)
@click.option("--guard", is_flag=True, help="Act: skip poisoned steps, hold back exploding ones.")
@click.option(
    "--policy",
    metavar="CALL",
    help="What the guard does with finite gradients: 'clip_norm(1.0)'. [default: auto]",
)
@click.option(
    "--out",
    type=GivenPath(file_okay=False, path_type=Path),
    default=RUNS_FOLDER,
    show_default=True,
    help="Folder for the run files.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr.")
@click.pass_context
def command(
    ctx: click.Context,
    guard: bool,  # noqa: FBT001 - click hands options over by name
    policy: str | None,
    out: Path,
    quiet: bool,  # noqa: FBT001 - same
) -> Callable[[], NoReturn]:
    """Run a script as python would, and record every training in it.

    Observes only, unless --guard is given. Everything after SCRIPT, or after -m MODULE, is the
    script's own. Flags of python go to python: python -u -m steadygrad run train.py. Under a launcher
    it goes inside: torchrun --nproc-per-node 8 -m steadygrad run train.py.
    """
    from steadygrad.launch import Orders, corrected_command, find_target, parse_policy, run

    words: list[str] = ctx.meta[__name__]
    if policy is not None and not guard:
        raise click.UsageError("--policy says how to act, and without --guard nothing is done. Add --guard.")
    meant = corrected_command(words, _options(guard, policy, out, quiet))
    if meant is not None:
        raise click.UsageError(
            f"{words[1] if words[0] == '-m' else words[0]} starts other processes. Run inside them: `{meant}`."
        )
    try:
        target = find_target(words)
        call = None if policy is None else parse_policy(policy)
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    orders = Orders(guard, call, out.absolute(), target.title, quiet)
    # Called when the command line has nothing to catch any more: see `steadygrad.cli.program`.
    return lambda: run(target, orders)


def _options(guard: bool, policy: str | None, out: Path, quiet: bool) -> list[str]:  # noqa: FBT001
    """Our own options, as they would be typed."""
    words = ["--guard"] if guard else []
    words += [] if policy is None else ["--policy", policy]
    words += [] if out == RUNS_FOLDER else ["--out", str(out)]
    return words + (["-q"] if quiet else [])
