"""Which chunk to coarsen next when a run file nears its size cap.

Full resolution may fill half of the budget, each coarser tier half as much as the one before. The
oldest chunk of the finest tier above its share goes first, so the past fades evenly. Rows around
findings stay as they are ("held") until they fill a quarter of the budget; then the oldest go too.
Pure: nothing here knows of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steadygrad.records import BoolArray
from steadygrad.runfile.block import Head

FACTOR = 8
HELD_SHARE = 0.25
PROTECTED_STEPS = 256
_COARSEST = FACTOR**10


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """One chunk, as far as choosing needs it.

    Attributes:
        first: its key; smaller is older.
        rows: rows it has.
        tier: resolution it was brought to.
        held: whether rows around a finding were left finer.
        size_bytes: packed size.
    """

    first: int
    rows: int
    tier: int
    held: bool
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do next.

    Attributes:
        first: key of the chunk.
        resolution: steps its rows shall stand for.
        protect: whether rows around findings stay as they are.
    """

    first: int
    resolution: int
    protect: bool


def next_plan(chunks: Sequence[ChunkSize], budget_bytes: int) -> Plan | None:
    """Choose the chunk to coarsen.

    Args:
        chunks: all chunks of the run, oldest first.
        budget_bytes: what they may fill together.

    Returns:
        The next step towards the budget; None when nothing is left to coarsen.

    Example:
        >>> chunks = [ChunkSize(0, 64, 1, False, 900), ChunkSize(64, 64, 1, False, 900)]
        >>> next_plan(chunks, 1000)
        Plan(first=0, resolution=8, protect=True)
    """
    held = [chunk for chunk in chunks if chunk.held]
    held_bytes = sum(chunk.size_bytes for chunk in held)
    if held_bytes > HELD_SHARE * budget_bytes:
        return _release(held[0])
    settled = [chunk for chunk in chunks[:-1] if not chunk.held]
    chosen = _over_share(settled, budget_bytes - held_bytes) or _finest(settled)
    if chosen is not None:
        return Plan(chosen.first, chosen.tier * FACTOR, protect=True)
    if held:
        return _release(held[0])
    newest = _finest(chunks[-1:])
    return None if newest is None else Plan(newest.first, newest.tier * FACTOR, protect=True)


def protected_rows(head: Head, findings: Sequence[tuple[int, int]]) -> BoolArray:
    """Rows within 256 steps of a finding.

    Args:
        head: the rows.
        findings: (step, optimizer) of each.

    Returns:
        True for protected rows ``[T]``.
    """
    protected = np.zeros(head.step.size, np.bool_)
    last = head.step + head.resolution - 1
    for step, optimizer in findings:
        near = (last >= step - PROTECTED_STEPS) & (head.step <= step + PROTECTED_STEPS)
        protected |= near & (head.optimizer == optimizer)
    return protected


def _release(chunk: ChunkSize) -> Plan:
    return Plan(chunk.first, max(chunk.tier, FACTOR), protect=False)


def _over_share(chunks: Sequence[ChunkSize], budget_bytes: int) -> ChunkSize | None:
    share = budget_bytes / 2.0
    for tier in sorted({chunk.tier for chunk in chunks if chunk.tier < _COARSEST}):
        mine = [chunk for chunk in chunks if chunk.tier == tier]
        level = round(np.log(tier) / np.log(FACTOR))
        if sum(chunk.size_bytes for chunk in mine) > share / 2**level:
            return mine[0]
    return None


def _finest(chunks: Sequence[ChunkSize]) -> ChunkSize | None:
    coarsenable = [chunk for chunk in chunks if chunk.tier < _COARSEST and chunk.rows > 1]
    return min(coarsenable, key=lambda chunk: (chunk.tier, chunk.first), default=None)
