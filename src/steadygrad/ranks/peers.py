"""The ranks of one training, and the key-value store that all of them share."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from steadygrad.errors import RankLost


@dataclass(frozen=True, slots=True)
class Peers:
    """The ranks of one training that have agreed to measure together.

    Attributes:
        rank: this one.
        world: how many there are.
        prefix: begins the name of every note in the store.
        replicated: each rank has a gradient of its own before DDP reduces it.
        on_host: how many share one machine's memory; of several machines the most.
        rows: of each optimizer the tensors of all ranks, where these hold different ones; see `steadygrad.ranks.census`.
    """

    rank: int
    world: int
    prefix: str
    replicated: bool
    on_host: int = 1
    rows: list[list[dict[str, Any]]] | None = None

    def silent(self, about: str, patience_s: float) -> list[int]:
        """Ranks that don't answer when asked after something has failed.

        Each leaves a note, and whoever is the first to lose patience reads those of all and writes down who is missing:
        a few requests a rank, and not one for each pair of ranks. Nobody waits for one rank in particular.

        Args:
            about: what has failed, the same on every rank and never used twice.
            patience_s: seconds to wait for all others together.
        """
        notes = f"{self.prefix}/here/{about}"
        word = f"{notes}/word"
        try:
            store = store_of_all()
            store.set(f"{notes}/{self.rank}", "1")
            if store.add(f"{notes}/count", 1) == self.world:
                store.set(word, "[]")
            # The second wait is for the one who reads; whoever waits in vain then reads too.
            has_come = comes(store, word, patience_s)
            reads = not has_come and store.add(f"{notes}/reads", 1) == 1
            if not (has_come or reads):
                has_come = comes(store, word, patience_s)
            if not has_come:
                missing = [rank for rank in range(self.world) if not store.check([f"{notes}/{rank}"])]
                store.compare_set(word, "", json.dumps(missing))
            told: list[int] = json.loads(store.get(word))
        except (RuntimeError, OSError):
            return [0]  # it serves the store
        return [rank for rank in told if rank != self.rank]

    def gone(self, silent: list[int]) -> list[int]:
        """Of ranks that don't answer, those that are to blame.

        A rank that lives may wait in the collective that has failed here, and not know of it yet. So where the process
        of one is seen to be gone, which it is on the same machine, that one alone is told.
        """
        keys = {rank: f"{self.prefix}/meet/{rank}" for rank in silent}
        try:
            store = store_of_all()
            notes = {
                rank: json.loads(store.get(key)) for rank, key in keys.items() if comes(store, key, 0.01)
            }
        except (RuntimeError, OSError, ValueError):
            return silent
        here = socket.gethostname()
        dead = [rank for rank, note in notes.items() if note["host"] == here and has_ended(note["pid"])]
        return dead or silent

    def lost(self, silent: list[int], while_: str = "") -> RankLost:
        """The error that names them.

        Args:
            silent: ranks that don't answer.
            while_: what they are needed for, as a sentence.
        """
        gone = self.gone(silent)
        who = f"rank{'s' * (len(gone) > 1)} {', '.join(map(str, gone))} of {self.world}"
        return RankLost(
            f"stopped: {who} {'have' if len(gone) > 1 else 'has'} died or doesn't answer; this is rank {self.rank}. "
            f"{while_}Look at the output of that rank (out of memory, a device that failed), then start again from the last "
            "checkpoint."
        )


def has_ended(pid: int) -> bool:
    """Whether a process of this machine has ended, even if its parent doesn't know yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return state.split()[0] in {"Z", "X"}
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def comes(store: Any, key: str, patience_s: float) -> bool:
    """Whether a note is in the store, or comes within so many seconds."""
    try:
        store.wait([key], timedelta(seconds=patience_s))
    except RuntimeError:
        return False
    return True


def store_of_all() -> Any:
    """The store that all ranks share."""
    # The only way to a store that all ranks share; torch's own elastic agent goes it too.
    return torch.distributed.distributed_c10d._get_default_store()  # noqa: SLF001
