"""Everything a run file holds at one moment, still packed.

A reader keeps the packed bytes (never more than the file's size) instead of a connection: it can't
be in the writer's way, and what it has read doesn't change under it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from steadygrad.errors import NotARunFile
from steadygrad.records import BoolArray, Finding, Incident, RunInfo
from steadygrad.runfile.block import Block, Body, Float64Array, Head, IntArray
from steadygrad.runfile.chunk import unpack_body, unpack_head
from steadygrad.runfile.facts import Tail, read_finding, read_incident, read_info, read_tail
from steadygrad.runfile.opening import reading
from steadygrad.runfile.scalars import Scalars, unpack
from steadygrad.runfile.schema import INFO_ROW, TAIL_ROW, TENSORS_ROW

Statistic = Literal["mean", "min", "max"]


class StoredChunk:
    """One row of the table ``chunk``; unpacked when asked, and then kept."""

    def __init__(self, packed_head: bytes, packed_body: bytes) -> None:
        """Keep the packed bytes."""
        self._packed_head = packed_head
        self._packed_body = packed_body

    @cached_property
    def head(self) -> Head:
        """The per-step columns."""
        return unpack_head(self._packed_head)

    @cached_property
    def body(self) -> Body:
        """The norms."""
        body = unpack_body(self._packed_body)
        self._packed_body = b""
        return body

    def block(self) -> Block:
        """Head and norms; the norms are unpacked anew unless they are held already."""
        held = self.__dict__.get("body")
        return Block(self.head, unpack_body(self._packed_body) if held is None else held)

    def forget_body(self) -> None:
        """Free the norms, packed or not; they can't be had again from this chunk."""
        self._packed_body = b""
        self.__dict__.pop("body", None)

    def norms(self, tensor: int, statistic: Statistic, owner: int) -> Float64Array:
        """Norms of one tensor ``[T]``; 0 for one that came later, NaN in rows of others than its owner."""
        body = self.body
        if tensor >= body.norms.tensors:
            return np.where(self.head.optimizer == owner, 0.0, np.nan)
        values = body.norms.column(tensor)
        if statistic != "mean":
            extreme = body.low if statistic == "min" else body.high
            values[self.head.resolution > 1] = extreme.column(tensor)
        values[(self.head.optimizer != owner) & self.absent(tensor)] = np.nan
        return values

    def foreign(self, owners: IntArray) -> BoolArray:
        """Where a row is another optimizer's than the tensor ``[T, P]``."""
        foreign: BoolArray = self.head.optimizer[:, None] != owners
        if foreign.any():
            absent = self.body.norms.absent()
            foreign[:, : absent.shape[1]] &= absent
        return foreign

    def absent(self, tensor: int) -> BoolArray:
        """Where one tensor has no norm ``[T]``; everywhere for one that came later."""
        norms = self.body.norms
        return norms.absent_column(tensor) if tensor < norms.tensors else np.ones(norms.rows, np.bool_)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        info: what the run is.
        tail: how far it is.
        chunks: by (first, serial), in order of writing.
        scalars: likewise.
        findings: in order of writing.
        incidents: in order of writing.
        looks: in order of writing, as text.
    """

    info: RunInfo
    tail: Tail
    chunks: dict[tuple[int, int], StoredChunk]
    scalars: dict[tuple[int, int], Scalars]
    findings: tuple[Finding, ...]
    incidents: tuple[Incident, ...]
    looks: tuple[str, ...] = ()


def take_snapshot(path: str, before: Snapshot | None = None) -> Snapshot:
    """Read a run; chunks that ``before`` already has are not read again.

    Args:
        path: the run file.
        before: an earlier snapshot of the same run.

    Returns:
        The run as it is now.

    Raises:
        NotARunFile: for a file that is no run.
        RunFileError: where it can't be read.
    """
    with reading(path) as connection:
        parts = dict(connection.execute("SELECT id,value FROM run").fetchall())
        if not {INFO_ROW, TENSORS_ROW, TAIL_ROW} <= parts.keys():
            raise NotARunFile(f"{path} is damaged: the description of the run is missing.")
        return Snapshot(
            read_info(parts[INFO_ROW], parts[TENSORS_ROW]),
            read_tail(parts[TAIL_ROW]),
            _chunks(connection, before.chunks if before else {}),
            _scalars(connection, before.scalars if before else {}),
            tuple(read_finding(text) for text in _events(connection, "finding")),
            tuple(read_incident(text) for text in _events(connection, "incident")),
            tuple(_events(connection, "look")),
        )


def _chunks(
    connection: sqlite3.Connection, known: dict[tuple[int, int], StoredChunk]
) -> dict[tuple[int, int], StoredChunk]:
    keys = connection.execute("SELECT first,serial FROM chunk ORDER BY first").fetchall()
    found = {}
    for key in keys:
        query = "SELECT head,body FROM chunk WHERE first=?"
        found[key] = known.get(key) or StoredChunk(*connection.execute(query, key[:1]).fetchone())
    return found


def _scalars(
    connection: sqlite3.Connection, known: dict[tuple[int, int], Scalars]
) -> dict[tuple[int, int], Scalars]:
    keys = connection.execute("SELECT first,serial FROM scalar ORDER BY first").fetchall()
    found = {}
    for key in keys:
        query = "SELECT data FROM scalar WHERE first=?"
        found[key] = known.get(key) or unpack(connection.execute(query, key[:1]).fetchone()[0])
    return found


def _events(connection: sqlite3.Connection, kind: str) -> list[str]:
    rows = connection.execute("SELECT data FROM event WHERE kind=? ORDER BY id", (kind,))
    return [text for (text,) in rows]
