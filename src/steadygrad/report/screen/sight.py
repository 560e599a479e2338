"""What the terminal view looks at: one run, or those in a folder with one of them opened."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from steadygrad.report.run_table import run_lines
from steadygrad.report.screen.run_view import RunView
from steadygrad.report.wording import visible
from steadygrad.runfile import RunSummary
from steadygrad.runfile.following import DAMAGE, FolderFollower, Follower, names_a_run

_LIST_SHARE, _LEAST_LISTED = 4, 3


class Sight(Protocol):
    """Something to look at; a rich renderable that fits the height it is given."""

    @property
    def fault(self) -> str:
        """Why there is nothing to see, in one sentence; empty where there is something."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Which keys do something now, and what."""

    def look(self) -> bool:
        """Read what changed; whether there is anything new to draw."""

    def press(self, key: str) -> None:
        """Obey a key."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines."""


class OneRun:
    """One run file.

    Args:
        path: where it is, or will be.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.follower = Follower(path)
        self._optimizer = 0

    @property
    def fault(self) -> str:
        """Why no run could be read so far."""
        return self.follower.fault if self.follower.run is None else ""

    @property
    def keys(self) -> tuple[str, ...]:
        """``o``, where there are several optimizers."""
        run = self.follower.run
        return ("o another optimizer",) if run is not None and len(run.info.optimizers) > 1 else ()

    def look(self) -> bool:
        """Read the file if it changed."""
        return self.follower.look()

    def press(self, key: str) -> None:
        """``o`` draws the next optimizer."""
        self._optimizer += key == "o"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the run, or why there is none."""
        follower = self.follower
        if follower.run is None:
            yield _waiting(follower)
            return
        try:
            view = RunView(follower.run, time.time(), self._optimizer, follower.fault)
            yield from list(console.render(view, options))
        except DAMAGE:
            yield Text(f"{visible(follower.path)} is damaged: its numbers can't be unpacked.", "bold red")


class ManyRuns:
    """The runs in a folder, and one of them; the newest, unless another was chosen.

    Args:
        folder: where they are, or will be.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = FolderFollower(folder)
        self._chosen: str | None = None
        self._open: OneRun | None = None

    @property
    def fault(self) -> str:
        """Nothing: a folder without runs can be shown."""
        return ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The arrows, where there are several runs, and those of the run that is open."""
        several = ("up/down another run",) if len(self._folder.runs) > 1 else ()
        return (*several, *(self._open.keys if self._open is not None else ()))

    def look(self) -> bool:
        """Read what changed in the folder, and in the run that is open."""
        changed = self._folder.look()
        return self._open_current() or changed

    def press(self, key: str) -> None:
        """``up`` and ``down`` choose another run; the rest is for the one that is open."""
        paths = [run.path for run in self._folder.runs]
        if key in {"up", "down"} and paths:
            step = 1 if key == "down" else -1
            self._chosen = paths[min(max(self._place() + step, 0), len(paths) - 1)]
            self._open_current()
        elif self._open is not None:
            self._open.press(key)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the list, then the run that is open."""
        runs = self._folder.runs
        if not runs or self._open is None:
            yield Text(f"No runs in {visible(self._folder.folder)} yet.")
            return
        height = options.height
        most = len(runs) if height is None else max(height // _LIST_SHARE, _LEAST_LISTED)
        listed = list(_listed(runs, self._place(), most, options.max_width))
        yield from listed
        yield Text()
        rest = None if height is None else max(height - len(listed) - 1, 1)
        yield from list(console.render(self._open, options.update(height=rest)))

    def _place(self) -> int:
        paths = [run.path for run in self._folder.runs]
        return paths.index(self._chosen) if self._chosen in paths else 0

    def _open_current(self) -> bool:
        runs = self._folder.runs
        if not runs:
            self._open = None
            return False
        path = runs[self._place()].path
        if self._open is None or self._open.follower.path != path:
            self._open = OneRun(path)
        return self._open.look()


def look_at(place: Path) -> Sight:
    """Choose the sight for a place that may not be there yet.

    Args:
        place: a run file or a folder; of a place that isn't there, one with a suffix will be a file.

    Returns:
        The sight; nothing is read yet.
    """
    return OneRun(place) if names_a_run(place) else ManyRuns(place)


def _waiting(follower: Follower) -> RenderableType:
    if Path(follower.path).exists():
        return Text(visible(follower.fault), "bold red")
    return Text(f"Waiting for {visible(follower.path)}.")


def _listed(runs: Sequence[RunSummary], place: int, most: int, width: int) -> Iterator[Text]:
    """The headings, and as many runs as fit around the one that is open."""
    first = min(max(place - most // 2, 0), max(len(runs) - most, 0))
    shown = runs[first : first + most]
    for row, line in enumerate(run_lines(shown, time.time(), width - 2)):
        here = row == place - first + 1
        yield Text("> " if here else "  ", no_wrap=True, overflow="crop").append_text(line)
    hidden = len(runs) - len(shown)
    if hidden:
        yield Text(f"  and {hidden:,} more", style="dim")
