"""The runs a server shows, each read and drawn once however many tabs look at it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from steadygrad.report.live.drawing import Drawing, draw
from steadygrad.report.live.tensors import Submit, TensorPictures
from steadygrad.report.vitals import Vitals, take_vitals
from steadygrad.runfile import Run, RunSummary
from steadygrad.runfile.following import DAMAGE, FolderFollower, Follower, names_a_run
from steadygrad.runfile.listing import summarise

LOOK_EVERY_S = 0.1
"""Several tabs ask at once; the files are asked at most ten times a second."""

DRAW_EVERY_S = 0.8
"""A run that writes all the time is drawn about once a second, as often as it writes: a step would be late."""


class Watched:
    """One run that somebody looks at.

    Args:
        path: its file.
        submit: has work done by another thread.

    Attributes:
        tensors: its pictures below the course.
    """

    def __init__(self, path: str, submit: Submit) -> None:
        self._follower = Follower(path)
        self.tensors = TensorPictures(submit)
        self._version = 0
        self._looked_s = self._drawn_s = float("-inf")
        self._drawing: Drawing | None = None
        self._damage = ""
        self._vitals: tuple[int, Vitals] | None = None

    @property
    def vitals(self) -> Vitals | None:
        """Its newest numbers, taken once however many ask; None where it can't be read."""
        run = self._follower.run
        if run is None:
            return None
        if self._vitals is None or self._vitals[0] != self._version:
            self._vitals = self._version, take_vitals(run)
        return self._vitals[1]

    @property
    def run(self) -> Run | None:
        """The run as last read; None where it can't be."""
        return self._follower.run

    @property
    def fault(self) -> str:
        """Why the file can't be read just now; empty where it can."""
        return self._follower.fault or self._damage

    def look(self) -> Drawing | None:
        """Read the file if it changed, and draw it.

        Returns:
            The newest drawing; None where the run can't be read.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_EVERY_S:
            self._version += self._follower.look()
            self._looked_s = now_s
        held = self._drawing
        if held is None or (held.version != self._version and now_s - self._drawn_s >= DRAW_EVERY_S):
            self._draw()
            self._drawn_s = now_s
        return self._drawing

    def _draw(self) -> None:
        run = self._follower.run
        if run is None:
            return
        try:
            self._drawing, self._damage = draw(run, self._version), ""
        except DAMAGE:
            self._damage = f"{self._follower.path} is damaged: its numbers can't be unpacked."


class Hub:
    """One run, or those in a folder.

    Args:
        place: a run file or a folder; it may not be there yet.
        submit: has work done by another thread.

    Attributes:
        place: the same.
        runs: the runs as last listed, the newest first.
    """

    def __init__(self, place: Path, submit: Submit) -> None:
        self.place, self._submit = place, submit
        self.runs: Sequence[RunSummary] = ()
        self._folder = None if names_a_run(place) else FolderFollower(place)
        self._watched: dict[str, Watched] = {}
        self._looked_s = float("-inf")

    @property
    def is_folder(self) -> bool:
        """Whether there may be several runs."""
        return self._folder is not None

    def look(self) -> None:
        """List what there is now."""
        if time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = time.monotonic()
        if self._folder is None:
            summary = summarise(str(self.place.absolute()))
            self.runs = [summary] if summary else []
        else:
            self._folder.look()
            self.runs = self._folder.runs

    def path_of(self, name: str | None) -> str | None:
        """The run a browser asked for, by the name of its file; nothing else can be named.

        Args:
            name: the name; None asks for the newest run.

        Returns:
            Its path, of those that are listed; None where there is no such run.
        """
        self.look()
        paths = [run.path for run in self.runs]
        return next((path for path in paths if name is None or Path(path).name == name), None)

    def watch(self, path: str) -> Watched:
        """One run to look at; the same one for all who ask for it.

        Args:
            path: from `path_of`.

        Returns:
            The run.
        """
        if path not in self._watched:
            self._watched[path] = Watched(path, self._submit)
        return self._watched[path]

    def forget(self, paths_in_use: set[str]) -> None:
        """Let go of runs that no tab shows any more."""
        self._watched = {path: one for path, one in self._watched.items() if path in paths_in_use}
