"""Write batches into a run file, merge small chunks, and keep the file under its cap.

Every change of more than one row is one transaction, so a killed process leaves a whole file.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from steadygrad.errors import RunFileError
from steadygrad.records import Finding, Incident, Look, Reading, TensorInfo
from steadygrad.runfile import scalars as points
from steadygrad.runfile.block import Block
from steadygrad.runfile.coding import Layout, from_readings
from steadygrad.runfile.database import Database
from steadygrad.runfile.facts import Tail, finding_text, incident_text, look_text, tail_text, tensors_bytes
from steadygrad.runfile.lanes import ScalarLane, StepLane
from steadygrad.runfile.schema import TAIL_ROW, TENSORS_ROW
from steadygrad.runfile.tiers import next_plan


class Scalar(NamedTuple):
    """One point of a named scalar."""

    step: int
    name: str
    value: float


Item = Reading | Finding | Incident | Look | Scalar | tuple[TensorInfo, ...]

_SCALAR_SHARE = _EVENT_SHARE = 8
_KEPT_EVENTS = 32
_PAGE_SLACK = 8192


@dataclass(slots=True)
class _Batch:
    """Items of one write, sorted by kind."""

    tensors: tuple[TensorInfo, ...]
    blocks: list[Block] = field(default_factory=list)
    scalars: list[Scalar] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    last_total_norm: float | None = None


@dataclass(frozen=True, slots=True)
class _State:
    """What is in the file; replaced only after a commit, so a failed write can be tried again."""

    tensors: tuple[TensorInfo, ...]
    tail: Tail
    points: int = 0
    findings: tuple[tuple[int, int], ...] = ()


class RunStore:
    """The rows of one run file; used by one thread.

    Args:
        database: the open file.
        tensors: the run's tensors at its start.
    """

    def __init__(self, database: Database, tensors: tuple[TensorInfo, ...]) -> None:
        """Start with an empty run."""
        self._database = database
        self._state = _State(tensors, Tail())
        self._steps = StepLane(database)
        self._scalars = ScalarLane(database)

    def write(self, items: Sequence[Item]) -> None:
        """Write items, all or none of them.

        Args:
            items: in the order they came.

        Raises:
            Stalled: where somebody keeps the file from being written for now.
            sqlite3.Error: where the write failed.
            RunFileError: where the file is gone or the cap can't be kept.
            ValueError: where a reading doesn't fit the run's tensors.
        """
        self._database.check_present()
        batch = _sort(items, self._state.tensors)
        packed = [self._steps.pack(block) for block in batch.blocks]
        scalars = [self._scalars.pack(points.from_points(batch.scalars))] if batch.scalars else []
        incoming = sum(part.size_bytes for part in packed) + sum(part.size_bytes for part in scalars)
        self._make_room(incoming)
        state = self._advance(batch)
        with self._database.transaction() as connection:
            if len(batch.tensors) > len(self._state.tensors):
                data = tensors_bytes(batch.tensors)
                connection.execute("UPDATE run SET value=? WHERE id=?", (data, TENSORS_ROW))
            self._steps.insert(packed, self._state.tail.steps)
            self._scalars.insert(scalars, self._state.points)
            events: list[tuple[str, str, int, str]] = [
                ("finding", f.severity, f.step, finding_text(f)) for f in batch.findings
            ]
            events += [("incident", i.action, i.step, incident_text(i)) for i in batch.incidents]
            events += [("look", "", one.step, look_text(one)) for one in batch.looks]
            connection.executemany("INSERT INTO event(kind,severity,step,data) VALUES (?,?,?,?)", events)
            connection.execute("UPDATE run SET value=? WHERE id=?", (tail_text(state.tail), TAIL_ROW))
        self._state = state
        self._steps.merge_newest()
        self._scalars.merge_newest()
        if events:
            self._drop_events()

    def finish(self) -> None:
        """Mark the run as finished and close the file."""
        tail = replace(self._state.tail, finished=True, last_written=time.time())
        self._steps.merge_newest(everything=True)
        self._scalars.merge_newest(everything=True)
        with self._database.transaction() as connection:
            connection.execute("UPDATE run SET value=? WHERE id=?", (tail_text(tail), TAIL_ROW))
        self._database.close()

    def abandon(self) -> None:
        """Let go of the file as it is."""
        self._database.abandon()

    def _advance(self, batch: _Batch) -> _State:
        rows = sum(block.rows for block in batch.blocks)
        tail = replace(self._state.tail, steps=self._state.tail.steps + rows, last_written=time.time())
        if batch.last_total_norm is not None:
            tail = replace(tail, last_total_norm=batch.last_total_norm)
        new = tuple((finding.step, finding.optimizer) for finding in batch.findings)
        count = self._state.points + len(batch.scalars)
        return _State(batch.tensors, tail, count, self._state.findings + new)

    def _make_room(self, incoming_bytes: int) -> None:
        """Coarsen old steps and thin old scalars until the file takes ``incoming_bytes`` more."""
        budget = self._database.budget_bytes
        scalar_budget = budget // _SCALAR_SHARE
        while self._scalars.size_bytes() > scalar_budget:
            plan = next_plan(self._scalars.sizes(), scalar_budget)
            if plan is None:
                break
            self._scalars.carry_out(plan)
        while (excess := self._database.used_bytes() + incoming_bytes + _PAGE_SLACK - budget) > 0:
            sizes = self._steps.sizes()
            plan = next_plan(sizes, max(0, sum(size.size_bytes for size in sizes) - excess))
            if plan is None:
                raise RunFileError(
                    f"{self._database.path} can't be kept under its size cap; give a larger size_cap_bytes."
                )
            self._steps.carry_out(plan, self._state.findings)

    def _drop_events(self) -> None:
        """Keep findings and incidents in their share: looks go first, then incidents after the first ones."""
        connection = self._database.connection
        used, count = connection.execute("SELECT total(length(data)), count(*) FROM event").fetchone()
        if used <= self._database.budget_bytes / _EVENT_SHARE:
            return
        tail = self._state.tail
        with self._database.transaction():
            if connection.execute("DELETE FROM event WHERE kind='look'").rowcount:
                return
            dropped = connection.execute(
                "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE id>? "
                "ORDER BY kind='finding', id LIMIT ?)",
                (_KEPT_EVENTS, count // 4),
            ).rowcount
            tail = replace(tail, dropped_events=tail.dropped_events + dropped)
            connection.execute("UPDATE run SET value=? WHERE id=?", (tail_text(tail), TAIL_ROW))
        self._state = replace(self._state, tail=tail)


def _sort(items: Iterable[Item], tensors: tuple[TensorInfo, ...]) -> _Batch:
    """Sort items by kind; readings before and after new tensors become blocks of their own."""
    batch, readings = _Batch(tensors), list[Reading]()

    def close_block() -> None:
        if readings:
            batch.blocks.append(from_readings(readings, Layout(batch.tensors)))
            batch.last_total_norm = float(readings[-1].total_norm)
            readings.clear()

    for item in items:
        if isinstance(item, Reading):
            readings.append(item)
        elif isinstance(item, Finding):
            batch.findings.append(item)
        elif isinstance(item, Incident):
            batch.incidents.append(item)
        elif isinstance(item, Look):
            batch.looks.append(item)
        elif isinstance(item, Scalar):
            batch.scalars.append(item)
        else:
            close_block()
            batch.tensors = (*batch.tensors, *item)
    close_block()
    return batch
