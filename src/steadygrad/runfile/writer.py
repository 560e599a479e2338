"""Record a run: what the monitor calls, from the training's own thread."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from steadygrad.errors import UsageError
from steadygrad.records import Finding, Incident, Look, Reading, RunInfo, TensorInfo
from steadygrad.runfile.database import Database
from steadygrad.runfile.recorder import Recorder
from steadygrad.runfile.store import RunStore, Scalar

if TYPE_CHECKING:
    from typing_extensions import Self

_DURABLE_TIMEOUT_S = 1.0


class RunWriter:
    """One run, written to one SQLite file by one background thread.

    Nothing here does input or output on the caller's thread, except the constructor, `finding` and
    `incident`, which wait until they are safe. A killed process loses at most the last
    ``chunk_steps`` readings or ``flush_s`` seconds, whichever is more, and never the file. A fault
    (disk full, file removed) ends the recording, never the training: see ``fault``. In a forked
    child every method does nothing. A run that already exists is never overwritten: the new one
    gets ``-2``, ``-3``... before the suffix. On a network file system, where SQLite's log can't be
    shared, the run is written without it (see ``notice``).

    Args:
        path: where to write; kept as given, no suffix is added. Missing folders are made.
        info: what the run is.
        size_cap_bytes: most that file and log take together; near it, old steps become coarser.
            64 MiB hold 100,000 steps of 400 tensors in full.
        chunk_steps: most readings that may wait in memory while the disk keeps up.
        flush_s: longest that a reading waits, in seconds; at most one small commit a second, and who looks
            at the run while it is written sees a step within two.

    Raises:
        RunFileError: where the file can't be created, or something else than a run is there.
        UsageError: for numbers that can't work.

    Attributes:
        path: the path that was taken.
        notice: what a person should know about this place, or None.

    Example:
        >>> import tempfile, numpy as np
        >>> folder = tempfile.mkdtemp()
        >>> info = RunInfo("a", tensors=(TensorInfo("weight"), TensorInfo("bias")))
        >>> with RunWriter(f"{folder}/a.steady", info) as writer:
        ...     writer.append(Reading(step=0, norms=np.array([3.0, 4.0]), total_norm=5.0))
        >>> from steadygrad.runfile.reader import open_run
        >>> open_run(writer.path).total_norm
        array([5.])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        info: RunInfo,
        *,
        size_cap_bytes: int = 64 * 2**20,
        chunk_steps: int = 64,
        flush_s: float = 1.0,
    ) -> None:
        """Create the file and start the thread."""
        if chunk_steps < 1:
            raise UsageError(f"RunWriter(chunk_steps={chunk_steps}): expected a whole number of at least 1.")
        if not 0.0 < flush_s < float("inf"):
            raise UsageError(f"RunWriter(flush_s={flush_s}): expected a number of seconds above 0.")
        database = Database(path, info, size_cap_bytes)
        self.path = database.path
        self.notice = database.notice
        self._recorder = Recorder(self.path, len(info.tensors), chunk_steps, flush_s)
        self._recorder.start(RunStore(database, info.tensors))
        self._finalizer = weakref.finalize(self, self._recorder.forsake)
        self._finalizer.atexit = False

    @property
    def fault(self) -> str | None:
        """Why recording ended, in one line; None while it goes on."""
        return self._recorder.fault

    @property
    def on_fault(self) -> Callable[[str], None] | None:
        """Called once, from any thread, with one line about the first thing that goes wrong."""
        return self._recorder.on_fault

    @on_fault.setter
    def on_fault(self, callback: Callable[[str], None] | None) -> None:
        self._recorder.on_fault = callback

    def append(self, reading: Reading) -> None:
        """Record one step; takes about a microsecond, never blocks, never raises.

        Args:
            reading: its arrays must not be changed afterwards. Norms are those of all tensors of
                the run, or of the reading's optimizer alone.
        """
        self._recorder.put(reading)

    def add_tensors(self, tensors: Sequence[TensorInfo]) -> None:
        """Tell of parameters added during the run; earlier steps count them as absent.

        Args:
            tensors: they follow those already known.
        """
        if tensors:
            self._recorder.put(tuple(tensors))

    def scalar(self, step: int, name: str, value: float) -> None:
        """Record one named number; NaN and Inf survive.

        Args:
            step: its step.
            name: any name.
            value: the number.
        """
        self._recorder.put(Scalar(int(step), str(name), float(value)))

    def finding(self, finding: Finding) -> None:
        """Record a finding, and wait (a second at most) until it and all before it are safe.

        Args:
            finding: what was found.
        """
        self._put_safely(finding)

    def incident(self, incident: Incident) -> None:
        """Record an incident, and wait (a second at most) until it and all before it are safe.

        Args:
            incident: what happened.
        """
        self._put_safely(incident)

    def look(self, look: Look) -> None:
        """Record what the signals inside the model were like; nothing waits for it.

        Args:
            look: a few numbers.
        """
        self._recorder.put(look)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything recorded so far is in the file.

        Args:
            timeout_s: longest wait, in seconds.

        Returns:
            Whether it is.
        """
        return self._recorder.wait_written(timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Write the rest and finish the file; a second call does nothing.

        Args:
            timeout_s: longest wait, in seconds.
        """
        if self._recorder.owned:
            self._recorder.request_stop()
            self._recorder.join(timeout_s)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()

    def _put_safely(self, item: Finding | Incident) -> None:
        if self._recorder.inert:
            return
        self._recorder.put(item)
        if not self._recorder.stalled:
            self._recorder.wait_written(_DURABLE_TIMEOUT_S)
