"""Read a run: the curve of every tensor, findings and incidents, from one file.

Shape legend: T rows, P tensors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steadygrad.errors import UsageError
from steadygrad.records import BoolArray, Finding, Incident, Look, RunInfo
from steadygrad.runfile import drawn
from steadygrad.runfile.block import NO_ROWS, Block, Float64Array, Head, IntArray, Sparse, join_heads
from steadygrad.runfile.data_frame import data_frame
from steadygrad.runfile.facts import read_look
from steadygrad.runfile.given import as_path
from steadygrad.runfile.joining import on_rows, with_losses
from steadygrad.runfile.notebook import run_html
from steadygrad.runfile.own_numbers import points
from steadygrad.runfile.rows import Rows
from steadygrad.runfile.scalars import Scalars, from_points, join
from steadygrad.runfile.snapshot import Snapshot, Statistic, StoredChunk, take_snapshot
from steadygrad.runfile.unknown import unknown

if TYPE_CHECKING:
    from typing_extensions import Self

_STATISTICS = ("mean", "min", "max")


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open a run for reading, also while it is being written or after its process was killed.

    Args:
        path: the run file.

    Returns:
        The run as it is now; ``refresh`` shows what was written since.

    Raises:
        NotARunFile: for a file that steadygrad didn't write, or a part of one.
        RunFileError: where there is none, or it is of a newer steadygrad.
        UsageError: ``path`` is no path.

    Example:
        >>> open_run("/nowhere/a.steady")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        steadygrad.errors.RunFileError: no run can be read at /nowhere/a.steady (...). Check the path.
    """
    given = as_path(f"open_run({path!r})", path, "a run file", "open_run('runs/first.steady')")
    return Run(str(given.absolute()))


class Run(Rows):
    """A recorded run at one moment.

    Rows are in order of writing; with several optimizers they interleave and ``optimizer`` tells
    them apart. In a long run old rows are coarse: such a row stands for ``resolution`` steps, and
    its numbers are means over the finite ones (the smallest for ``clip_coef`` and ``lr_factor``,
    the first for ``steps`` and ``time_s``, any for ``skipped`` and ``overflow``). Norms are exact to
    0.2 %, the total norm, cap and clip_coef to 0.02 %, the loss to 2e-5. Every array belongs to one snapshot: all have the
    same T until ``refresh``.

    Args:
        path: absolute path of the run file.
    """

    def __init__(self, path: str) -> None:
        """Take the first snapshot."""
        self.path = path
        self._snapshot: Snapshot = take_snapshot(path)

    def refresh(self) -> Self:
        """Read what was written since.

        Returns:
            Itself.

        Raises:
            RunFileError: where the file is gone.
        """
        self._snapshot = take_snapshot(self.path, self._snapshot)
        for name in ("_head", "_scalars", "_position", "_owners", "looks"):
            self.__dict__.pop(name, None)
        return self

    def forget_norms(self) -> Self:
        """Free the norms of the tensors, most of a run's size, where only the steps are of interest.

        Returns:
            Itself; its norms must not be asked for any more.
        """
        for chunk in self._snapshot.chunks.values():
            chunk.forget_body()
        return self

    def close(self) -> None:
        """Nothing is held open between calls; here for symmetry with files."""

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Name, steps, tensors and findings."""
        return (
            f"Run({self.info.name!r}, {self.step_count} steps, {len(self.info.tensors)} tensors, "
            f"{len(self.findings)} findings)"
        )

    def _repr_html_(self) -> str:
        """What it is, how far, and its newest findings, for a notebook."""
        return run_html(self)

    def to_pandas(self, tensors: Sequence[str] | None = None) -> Any:
        """The run as a pandas table: a row a step, the columns of ``steadygrad export``.

        Args:
            tensors: names of the tensors whose norms get a column ``grad_norm/NAME``; None gives all of them one,
                ``()`` none.

        Returns:
            A `pandas.DataFrame` indexed by step. A row of an old part of the run may stand for
            ``resolution`` steps; with several optimizers a step occurs once for each.

        Raises:
            FrameworkMissing: pandas is absent; ``pip install "steadygrad[pandas]"``.
            UnknownName: the run has no tensor of such a name.

        Example:
            >>> open_run("runs/a.steady").to_pandas(())["total_norm"].plot(logy=True)  # doctest: +SKIP
        """
        return data_frame(self, tensors)

    def plot(self) -> Any:
        """Draw the run, for a notebook: course, every tensor at every step, gradient against depth, update ratios.

        Returns:
            A Bokeh layout; ``bokeh.io.show`` shows it, and `steadygrad report` writes it with its story.

        Raises:
            FrameworkMissing: Bokeh isn't installed.

        Example:
            >>> import steadygrad as sg
            >>> sg.open_run("steadygrad-runs/a.steady").plot()    # doctest: +SKIP
        """
        return drawn.plot(self)

    @property
    def info(self) -> RunInfo:
        """What the run is, with all tensors it has by now."""
        return self._snapshot.info

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings in order of writing."""
        return self._snapshot.findings

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """Incidents in order of writing."""
        return self._snapshot.incidents

    @cached_property
    def looks(self) -> tuple[Look, ...]:
        """What the signals inside the model were like, on a few steps; empty where nothing was listened to."""
        return tuple(map(read_look, self._snapshot.looks))

    @property
    def dropped_events(self) -> int:
        """Findings and incidents left out to keep the size cap."""
        return self._snapshot.tail.dropped_events

    @property
    def finished(self) -> bool:
        """Whether the writer closed the run; False while it runs, or when it was killed."""
        return self._snapshot.tail.finished

    @property
    def last_written(self) -> float:
        """When the newest part was written, seconds since the epoch."""
        return self._snapshot.tail.last_written

    @property
    def step_count(self) -> int:
        """Optimizer steps recorded, all optimizers together."""
        return self._snapshot.tail.steps

    def norms(self, name: str, statistic: Statistic = "mean") -> Float64Array:
        """Gradient norms of one tensor.

        Args:
            name: qualified name, one of ``info.tensors``.
            statistic: ``mean``, ``min`` or ``max`` over the finite steps of a coarse row; the same
                number in rows of one step.

        Returns:
            Norms ``[T]``; 0 where there was no gradient (see ``absent``), NaN or Inf where no step
            of the row was finite, NaN where the row is another optimizer's.

        Raises:
            UnknownName: for a name the run doesn't have.
            UsageError: for another statistic.
        """
        if statistic not in _STATISTICS:
            raise UsageError(f"norms(statistic={statistic!r}): expected one of {', '.join(_STATISTICS)}.")
        index = self._find(name)
        owner = self._owners[index]
        return self._gather(lambda chunk: chunk.norms(index, statistic, owner), np.float64)

    def absent(self, name: str) -> BoolArray:
        """Where one tensor had no gradient.

        Args:
            name: qualified name.

        Returns:
            True where it had none in the whole row, or the row is another optimizer's ``[T]``.

        Raises:
            UnknownName: for a name the run doesn't have.
        """
        index = self._find(name)
        return self._gather(lambda chunk: chunk.absent(index), np.bool_)

    def norm_matrix(self, start: int | None = None, stop: int | None = None) -> Float64Array:
        """Gradient norms of all tensors.

        Args:
            start: first row; as in a slice.
            stop: row behind the last; as in a slice.

        Returns:
            Norms ``[T, P]``, one column for each of ``info.tensors``, as from ``norms``.
        """
        first, last, _ = slice(start, stop).indices(self.steps.size)
        matrix = np.zeros((max(0, last - first), len(self._owners)))
        at = 0
        for chunk in self._snapshot.chunks.values():
            rows = chunk.head.step.size
            low, high = max(first - at, 0), min(last - at, rows)
            if low < high:
                part = matrix[at + low - first : at + high - first]
                values = chunk.body.norms.values()[low:high]
                part[:, : values.shape[1]] = values
                part[chunk.foreign(self._owners)[low:high]] = np.nan
            at += rows
        return matrix

    def blocks(self) -> Iterator[Block]:
        """The run stretch by stretch, in order of writing; nothing that is unpacked is kept.

        For whoever reads every number once: 100,000 steps of 500 tensors are 400 MB as a matrix.

        Yields:
            The rows of one stretch, their norms as codes (see `steadygrad.runfile.codec`). Losses that were
            logged late are in ``loss`` and not in here.
        """
        for chunk in self._snapshot.chunks.values():
            yield chunk.block()

    def param_norms(self, name: str) -> tuple[IntArray, Float64Array]:
        """Norms of one parameter, on the steps that measured it.

        Args:
            name: qualified name.

        Returns:
            Steps and norms.

        Raises:
            UnknownName: for a name the run doesn't have.
        """
        return self._sparse(name, lambda chunk: chunk.body.param_norms)

    def update_norms(self, name: str) -> tuple[IntArray, Float64Array]:
        """Norms of the change of one parameter, on the steps that measured it.

        Args:
            name: qualified name.

        Returns:
            Steps and norms.

        Raises:
            UnknownName: for a name the run doesn't have.
        """
        return self._sparse(name, lambda chunk: chunk.body.update_norms)

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """Names of the scalars, in order of their first appearance."""
        return self._scalars.names

    def scalars(self, name: str) -> tuple[IntArray, Float64Array]:
        """Points of one scalar.

        Args:
            name: one of ``scalar_names``.

        Returns:
            Steps and values, in order of writing.

        Raises:
            UnknownName: for a name the run doesn't have.
        """
        found = self._scalars
        if name not in found.names:
            raise unknown("scalar", name, found.names, self.path)
        mine = found.name == found.names.index(name)
        return found.step[mine], found.value[mine]

    def scalar_on_rows(self, name: str) -> Float64Array:
        """One scalar beside the rows.

        Args:
            name: one of ``scalar_names``.

        Returns:
            Mean over the finite points of each row's steps ``[T]``; NaN where there is none, and in
            the rows of an optimizer that steps more seldom than another.

        Raises:
            UnknownName: for a name the run doesn't have.
        """
        return on_rows(self._head, *self.scalars(name))

    @cached_property
    def _head(self) -> Head:
        heads = [chunk.head for chunk in self._snapshot.chunks.values()]
        head = join_heads(heads) if heads else NO_ROWS
        if "loss" in self.scalar_names:
            head = with_losses(head, *self.scalars("loss"))
        for column in Head.__slots__:
            getattr(head, column).flags.writeable = False
        return head

    @cached_property
    def _scalars(self) -> Scalars:
        parts = list(self._snapshot.scalars.values())
        if self.looks:
            parts.append(from_points(points(self.looks)))
        return join(parts) if parts else from_points([])

    @cached_property
    def _owners(self) -> IntArray:
        return np.array([tensor.optimizer for tensor in self.info.tensors], np.int64)

    @cached_property
    def _position(self) -> dict[str, int]:
        names = [tensor.name for tensor in self.info.tensors]
        return {name: index for index, name in reversed(list(enumerate(names)))}

    def _find(self, name: str) -> int:
        try:
            return self._position[name]
        except KeyError:
            names = [tensor.name for tensor in self.info.tensors]
            raise unknown("tensor", name, names, self.path) from None

    def _gather(self, read: Callable[[StoredChunk], NDArray[Any]], dtype: type) -> NDArray[Any]:
        parts = [read(chunk) for chunk in self._snapshot.chunks.values()]
        return np.concatenate(parts) if parts else np.zeros(0, dtype)

    def _sparse(self, name: str, pick: Callable[[StoredChunk], Sparse]) -> tuple[IntArray, Float64Array]:
        index = self._find(name)
        steps, values = [np.zeros(0, np.int64)], [np.zeros(0)]
        for chunk in self._snapshot.chunks.values():
            sparse = pick(chunk)
            if index < sparse.matrix.tensors:
                # A row of several optimizers' tensors holds zeros in the places of those that didn't step.
                mine = chunk.head.optimizer[sparse.rows] == self._owners[index]
                measured = mine & ~sparse.matrix.absent()[:, index]
                steps.append(chunk.head.step[sparse.rows[measured]])
                values.append(sparse.matrix.column(index)[measured])
        return np.concatenate(steps), np.concatenate(values)
