"""From a lane's Reading to the run file: positions of all optimizers side by side.

A monitor may watch several optimizers, and each of their Readings covers only its own parameters. A
run file has one list of tensors, so a Reading is spread over it before it is written.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from steadygrad import __version__
from steadygrad.measure import ParamTable, Spending
from steadygrad.policies import Policy
from steadygrad.records import Finding, FloatArray, Incident, Look, Reading, RunInfo, TensorInfo
from steadygrad.runfile import RunWriter
from steadygrad.runfile.given import as_path
from steadygrad.runfile.own_numbers import OVERHEAD

OVERHEAD_EVERY = 64
"""Steps between two numbers of what steadygrad costs: a reading more in 64 is nothing beside the norms."""


def run_info(
    path: Path, mode: str, policy: str, model: str, optimizers: Sequence[Optimizer], tensors: list[TensorInfo]
) -> RunInfo:
    """Who, what, when and with which versions."""
    return RunInfo(
        name=path.stem,
        mode=mode,
        policy=policy,
        started=time.time(),
        model=model,
        optimizers=tuple(type(optimizer).__name__ for optimizer in optimizers),
        tensors=tuple(tensors),
        versions={
            "python": sys.version.split()[0],
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "steadygrad": __version__,
        },
        command=tuple(sys.argv),
        **_place_among_ranks(),
    )


def _place_among_ranks() -> dict[str, int]:
    """From the process group where there is one: `mp.spawn` sets no variables."""
    spread = torch.distributed
    if spread.is_available() and spread.is_initialized():
        return {"rank": spread.get_rank(), "world_size": spread.get_world_size()}
    return {
        name.lower(): int(os.environ.get(name, other)) for name, other in (("RANK", 0), ("WORLD_SIZE", 1))
    }


def as_run_path(call: str, run: object) -> Path:
    """The path of a run file; anything else, and an empty one, raises a UsageError."""
    return as_path(f"{call}(run={run!r})", run, "a run file", "run='runs/first.steady'")


def _weakly(on_fault: Callable[[str], None]) -> Callable[[str], None]:
    """The same call, without keeping its object: the writer's thread must not hold a model alive."""
    method = weakref.WeakMethod(on_fault)

    def tell(line: str) -> None:
        if (alive := method()) is not None:
            alive(line)

    return tell


class Recorder:
    """Writes the Readings of several lanes as rows over one list of tensors.

    Args:
        path: the run file; an existing run is never overwritten, see `RunWriter`.
        info: what the run is; its ``tensors`` are those of lane 0, then lane 1, ...
        sizes: number of tensors of each lane.
        on_fault: method called once with a line for the user when recording had to end; its object
            is held weakly, and once that is gone the writer closes the file.
        spending: what steadygrad costs, written every `OVERHEAD_EVERY` steps of lane 0.
    """

    def __init__(
        self,
        path: Path,
        info: RunInfo,
        sizes: Sequence[int],
        on_fault: Callable[[str], None],
        spending: Spending | None = None,
    ) -> None:
        self.info = info
        self._writer = RunWriter(path, info)
        self._writer.on_fault = _weakly(on_fault)
        starts = np.cumsum([0, *sizes])
        self._rows = [np.arange(start, start + size) for start, size in zip(starts, sizes, strict=False)]
        self._total = int(starts[-1])
        self._spending = spending or Spending()
        self._newest_step = self._told_step = -1

    @property
    def path(self) -> Path:
        """Where the run is really written."""
        return Path(self._writer.path)

    def about(self) -> dict[str, object]:
        """What is known of the run, but for its tensors."""
        info = self.info
        return {
            "started": info.started,
            "model": info.model,
            "optimizers": list(info.optimizers),
            "policy": info.policy,
            "versions": dict(info.versions),
            "command": list(info.command),
            "rank": info.rank,
            "world_size": info.world_size,
        }

    @property
    def ended(self) -> bool:
        """Whether a fault has ended the recording."""
        return self._writer.fault is not None

    @property
    def notice(self) -> str | None:
        """What a person should know about the place the run is written to."""
        return self._writer.notice

    def add(self, lane: int, tensors: Sequence[TensorInfo]) -> None:
        """Take note of parameters that joined an optimizer."""
        rows = np.arange(self._total, self._total + len(tensors))
        self._rows[lane] = np.concatenate([self._rows[lane], rows])
        self._total += len(tensors)
        self._writer.add_tensors(tensors)

    def append(self, lane: int, reading: Reading) -> None:
        """Write one step."""
        if lane == 0:
            self._newest_step = reading.step
            if reading.step - self._told_step >= OVERHEAD_EVERY:
                self._tell_overhead()
        rows = self._rows[lane]
        if len(rows) == self._total:
            self._writer.append(reading)
            return
        absent = np.ones(self._total, np.bool_)
        absent[rows] = False if reading.absent is None else reading.absent
        self._writer.append(
            replace(
                reading,
                norms=self._spread(rows, reading.norms),
                absent=absent,
                param_norms=self._spread_some(rows, reading.param_norms),
                update_norms=self._spread_some(rows, reading.update_norms),
            )
        )

    def finding(self, finding: Finding) -> None:
        """Write a finding, at once."""
        self._writer.finding(finding)

    def incident(self, incident: Incident) -> None:
        """Write an incident, at once."""
        self._writer.incident(incident)

    def look(self, look: Look) -> None:
        """Write what the signals inside the model were like."""
        self._writer.look(look)

    def scalar(self, step: int, name: str, value: float) -> None:
        """Write a named number."""
        self._writer.scalar(step, name, value)

    def close(self) -> None:
        """Write what is left and close the file."""
        if self._newest_step > self._told_step:
            self._tell_overhead()
        self._writer.close()

    def discard(self) -> None:
        """Close the file and remove it: it is of no run."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _tell_overhead(self) -> None:
        self._told_step = self._newest_step
        self._writer.scalar(self._newest_step, OVERHEAD, self._spending.share())

    def _spread(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]], values: FloatArray) -> FloatArray:
        everywhere: FloatArray = np.zeros(self._total, values.dtype)
        everywhere[rows] = values
        return everywhere

    def _spread_some(
        self, rows: np.ndarray[tuple[int], np.dtype[np.int64]], values: FloatArray | None
    ) -> FloatArray | None:
        return None if values is None else self._spread(rows, values)


class Book(Protocol):
    """Who keeps the recorder and speaks for it."""

    recorder: Recorder | None
    spending: Spending

    def fault(self, text: str) -> None:
        """A part has switched itself off."""

    def say(self, key: str, text: str) -> None:
        """One line on stderr."""


@contextmanager
def recorded(
    book: Book,
    run: str | os.PathLike[str] | None,
    mode: str,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    policy: Policy | None,
    tables: Sequence[ParamTable],
) -> Iterator[None]:
    """Open the run file of a new monitor for ``book``; where that isn't made after all, no file is left.

    Args:
        book: gets the recorder.
        run: where to; None records nothing.
        mode: see `run_info`, as for the rest.
        model: its class is what the run is called by.
        optimizers: likewise.
        policy: of a guard.
        tables: parameters of each optimizer.
    """
    if run is None:
        yield
        return
    tensors = [tensor for table in tables for tensor in table.tensors]
    policy_call = "" if policy is None else repr(policy)
    path = as_run_path(mode, run)
    info = run_info(path, mode, policy_call, type(model).__name__, optimizers, tensors)
    book.recorder = recorder = Recorder(
        path, info, [len(table) for table in tables], book.fault, book.spending
    )
    if recorder.notice is not None:
        book.say("run file", recorder.notice)
    try:
        yield
    except BaseException:
        recorder.discard()
        raise
