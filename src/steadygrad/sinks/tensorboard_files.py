"""TensorBoard: event files, written with the package ``tensorboard`` alone (no torch)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from steadygrad.framework import require
from steadygrad.records import Finding
from steadygrad.runfile.given import as_path
from steadygrad.sinks.sink import Sink

if TYPE_CHECKING:
    from steadygrad.runfile import Run

_FLUSH_S = 10
"""TensorBoard's own default of 120 s loses two minutes when the process is killed."""


class TensorBoard(Sink):
    """Scalars and texts in an event file; NaN stays NaN, which TensorBoard marks in its curves.

    Args:
        folder: folder of the event file; the one your ``SummaryWriter`` writes to shows both together.
        every: see `Sink`.
        worst: see `Sink`.

    Raises:
        FrameworkMissing: tensorboard is absent or too old.
        UsageError: ``folder`` is no path.

    Example:
        >>> import torch, steadygrad as sg
        >>> model = torch.nn.Linear(4, 1)
        >>> guard = sg.guard(model, torch.optim.SGD(model.parameters(), lr=0.1))
        >>> guard.send_to(sg.sinks.TensorBoard("logs"))
    """

    def __init__(self, folder: str | os.PathLike[str], *, every: int = 10, worst: int | None = 3) -> None:
        super().__init__(every=every, worst=worst)
        require("tensorboard", "2.16", extra="tensorboard")
        from tensorboard.summary.writer.event_file_writer import EventFileWriter  # noqa: PLC0415 - optional

        # The writer takes addresses of remote folders too, which a path would shorten.
        path = as_path(f"TensorBoard({folder!r})", folder, "a folder for event files", "TensorBoard('logs')")
        given = os.fspath(folder)
        place = str(path) if given.startswith("~") else given
        self._writer = EventFileWriter(place, flush_secs=_FLUSH_S, filename_suffix=".steadygrad")
        self._offset_s: float | None = None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One event with all numbers of a step."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415 - optional

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step, Summary(value=scalars))

    def write_finding(self, finding: Finding, text: str) -> None:
        """One text under the finding's kind."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415 - optional
        from tensorboard.plugins.text.metadata import create_summary_metadata  # noqa: PLC0415
        from tensorboard.util.tensor_util import make_tensor_proto  # noqa: PLC0415

        tag = f"steadygrad/{finding.kind}"
        value = Summary.Value(
            tag=tag,
            metadata=create_summary_metadata(display_name=tag, description=""),
            tensor=make_tensor_proto([text]),
        )
        self._add(finding.step, Summary(value=[value]))

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

    def at(self, seconds: float) -> None:
        """Date what follows back to this moment, seconds since the epoch."""
        self._offset_s = seconds

    def _add(self, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415 - optional

        now = time.time() if self._offset_s is None else self._offset_s
        self._writer.add_event(Event(wall_time=now, step=step, summary=summary))


def write_tensorboard(run: Run, folder: str | os.PathLike[str], *, worst: int | None = None) -> int:
    """Write a recorded run as an event file.

    Args:
        run: the run.
        folder: where to; made if it isn't there.
        worst: tensors with a curve of their own; None is all of them.

    Returns:
        Number of steps written.
    """
    from steadygrad.sinks.recorded import logged_numbers, readings  # noqa: PLC0415 - reads the whole run

    sink = TensorBoard(folder, every=1, worst=worst)
    began = run.info.started
    count = 0
    for reading in readings(run):
        sink.at(began + reading.time_s)
        sink.reading(reading, run.info.tensors)
        count += 1
    for step, name, value in logged_numbers(run):
        sink.number(step, name, value)
    for finding in run.findings:
        sink.finding(finding)
    sink.close()
    return count
