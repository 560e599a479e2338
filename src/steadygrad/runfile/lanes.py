"""The two tables of packed rows: insert, merge, coarsen.

New rows arrive as small chunks. Once four of about the same length lie side by side they become one
(as a counter in base four carries), so there are few chunks at any time, each row is rewritten two or
three times, and large chunks compress well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steadygrad.runfile import chunk as chunks
from steadygrad.runfile import scalars as points
from steadygrad.runfile.block import Block, join
from steadygrad.runfile.coarsen import coarsen
from steadygrad.runfile.database import Database
from steadygrad.runfile.scalars import Scalars
from steadygrad.runfile.tiers import ChunkSize, Plan, protected_rows

_TARGET_CELLS = 65536
_LEAST_ROWS, _MOST_ROWS = 64, 1024
_SCALAR_ROWS = 4096
_CHUNKS_IN_BUDGET = 32
_CARRY = 4


@dataclass(frozen=True, slots=True)
class PackedSteps:
    """A block, packed."""

    rows: int
    tensors: int
    head: bytes
    body: bytes

    @property
    def size_bytes(self) -> int:
        """Packed size."""
        return len(self.head) + len(self.body)


@dataclass(frozen=True, slots=True)
class PackedScalars:
    """Scalars, packed."""

    rows: int
    data: bytes

    @property
    def size_bytes(self) -> int:
        """Packed size."""
        return len(self.data)


class StepLane:
    """Table ``chunk``.

    Args:
        database: the open file.
    """

    def __init__(self, database: Database) -> None:
        """Start with an empty table."""
        self._database = database
        self._sql = database.connection
        self._serial = 0

    @staticmethod
    def pack(block: Block) -> PackedSteps:
        """Pack a block."""
        return PackedSteps(block.rows, block.tensors, *chunks.pack(block))

    def insert(self, packed: Sequence[PackedSteps], first: int) -> None:
        """Add new rows; ``first`` counts the readings before them."""
        for part in packed:
            self._put(first, part, tier=1, held=False)
            first += part.rows

    def sizes(self) -> list[ChunkSize]:
        """All chunks, oldest first."""
        rows = self._sql.execute(
            "SELECT first,rows,tier,held,length(head)+length(body) FROM chunk ORDER BY first"
        )
        return [ChunkSize(first, count, tier, bool(held), size) for first, count, tier, held, size in rows]

    def merge_newest(self, *, everything: bool = False) -> None:
        """Merge the newest chunks where enough of one length lie side by side; ``everything`` merges all."""
        while len(group := self._group_from_end(everything=everything)) > 1:
            with self._database.transaction():
                self._merge(group)

    def carry_out(self, plan: Plan, findings: Sequence[tuple[int, int]]) -> None:
        """Coarsen one chunk, and merge it with the one before where that has the same tier."""
        with self._database.transaction():
            block = self._read(plan.first)
            protected = protected_rows(block.head, findings) if plan.protect else None
            coarser = coarsen(block, plan.resolution, protected)
            held = protected is not None and bool(
                (protected & (block.head.resolution < plan.resolution)).any()
            )
            self._put(plan.first, self.pack(coarser), tier=plan.resolution, held=held)
            before = self._sql.execute(
                "SELECT max(first) FROM chunk WHERE first<?", (plan.first,)
            ).fetchone()[0]
            if before is not None:
                pair = [self._size(before), self._size(plan.first)]
                most = self._most_rows(pair[1])
                if _of_a_kind(*pair) and pair[0].rows + pair[1].rows <= most:
                    self._merge(pair)

    def _most_rows(self, chunk: ChunkSize) -> int:
        """Rows that a chunk as wide as this one may have."""
        query = "SELECT tensors FROM chunk WHERE first=?"
        tensors: int = self._sql.execute(query, (chunk.first,)).fetchone()[0]
        cells = min(_TARGET_CELLS, self._database.budget_bytes // (2 * _CHUNKS_IN_BUDGET))
        return min(_MOST_ROWS, max(_LEAST_ROWS, cells // max(1, tensors)))

    def _merge(self, neighbours: Sequence[ChunkSize]) -> None:
        oldest, *others = neighbours
        block = join([self._read(size.first) for size in neighbours])
        self._sql.executemany("DELETE FROM chunk WHERE first=?", [(size.first,) for size in others])
        self._put(oldest.first, self.pack(block), tier=oldest.tier, held=oldest.held)

    def _group_from_end(self, *, everything: bool) -> list[ChunkSize]:
        """The newest chunks that are to become one now, oldest first; fewer than two where none are."""
        keys = self._sql.execute("SELECT first FROM chunk ORDER BY first DESC")
        sizes = (self._size(first) for (first,) in keys)
        newest = next(sizes, None)
        if newest is None:
            return []
        most = self._most_rows(newest)
        group, rows = [newest], newest.rows
        for older in sizes:
            alike = everything or older.rows < _CARRY * newest.rows
            if not alike or not _of_a_kind(older, newest) or rows + older.rows > most:
                break
            group.insert(0, older)
            rows += older.rows
        full = rows + newest.rows > most
        return group if everything or full or len(group) >= _CARRY else []

    def _size(self, first: int) -> ChunkSize:
        row = self._sql.execute(
            "SELECT first,rows,tier,held,length(head)+length(body) FROM chunk WHERE first=?", (first,)
        ).fetchone()
        return ChunkSize(row[0], row[1], row[2], bool(row[3]), row[4])

    def _read(self, first: int) -> Block:
        return chunks.unpack(
            *self._sql.execute("SELECT head,body FROM chunk WHERE first=?", (first,)).fetchone()
        )

    def _put(self, first: int, packed: PackedSteps, *, tier: int, held: bool) -> None:
        self._serial += 1
        self._sql.execute(
            "INSERT OR REPLACE INTO chunk VALUES (?,?,?,?,?,?,?,?)",
            (first, self._serial, packed.rows, packed.tensors, tier, int(held), packed.head, packed.body),
        )


def _of_a_kind(older: ChunkSize, newer: ChunkSize) -> bool:
    return older.tier == newer.tier and older.held == newer.held


class ScalarLane:
    """Table ``scalar``.

    Args:
        database: the open file.
    """

    def __init__(self, database: Database) -> None:
        """Start with an empty table."""
        self._database = database
        self._sql = database.connection
        self._serial = 0

    @staticmethod
    def pack(scalars: Scalars) -> PackedScalars:
        """Pack points."""
        return PackedScalars(scalars.value.size, points.pack(scalars))

    def insert(self, packed: Sequence[PackedScalars], first: int) -> None:
        """Add new points; ``first`` counts the points before them."""
        for part in packed:
            self._put(first, part, tier=1)
            first += part.rows

    def sizes(self) -> list[ChunkSize]:
        """All chunks, oldest first."""
        rows = self._sql.execute("SELECT first,rows,tier,0,length(data) FROM scalar ORDER BY first")
        return [
            ChunkSize(first, count, tier, held=False, size_bytes=size) for first, count, tier, _, size in rows
        ]

    def size_bytes(self) -> int:
        """Packed size of all chunks."""
        return int(self._sql.execute("SELECT total(length(data)) FROM scalar").fetchone()[0])

    def merge_newest(self, *, everything: bool = False) -> None:
        """Merge the newest chunks; ``everything`` also where the older one is longer."""
        while len(pair := self.sizes()[-2:]) == 2:
            older, newer = pair
            too_long = older.rows + newer.rows > _SCALAR_ROWS or older.tier != newer.tier
            if too_long or (older.rows > newer.rows and not everything):
                return
            with self._database.transaction():
                self._merge(older, newer)

    def carry_out(self, plan: Plan) -> None:
        """Thin one chunk, and merge it with the one before where that was thinned as often."""
        with self._database.transaction():
            self._put(plan.first, self.pack(points.thin(self._read(plan.first))), tier=plan.resolution)
            sizes = [size for size in self.sizes() if size.first <= plan.first][-2:]
            if (
                len(sizes) > 1
                and sizes[0].tier == sizes[1].tier
                and sizes[0].rows + sizes[1].rows <= _SCALAR_ROWS
            ):
                self._merge(*sizes)

    def _merge(self, older: ChunkSize, newer: ChunkSize) -> None:
        joined = points.join([self._read(older.first), self._read(newer.first)])
        self._sql.execute("DELETE FROM scalar WHERE first=?", (newer.first,))
        self._put(older.first, self.pack(joined), tier=older.tier)

    def _read(self, first: int) -> Scalars:
        return points.unpack(
            self._sql.execute("SELECT data FROM scalar WHERE first=?", (first,)).fetchone()[0]
        )

    def _put(self, first: int, packed: PackedScalars, *, tier: int) -> None:
        self._serial += 1
        row = (first, self._serial, packed.rows, tier, packed.data)
        self._sql.execute("INSERT OR REPLACE INTO scalar VALUES (?,?,?,?,?)", row)
