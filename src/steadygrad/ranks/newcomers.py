"""Parameters that join later, where ranks hold different tensors: all meet once more, and append the same rows.

Who has some says so with the collective of the step in which they came (`Letter.joins`). So all ranks know at the end of the
same step, tell each other through the key-value store what has joined, and from the next step on it is measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from steadygrad.measure import Layout, ParamTable
from steadygrad.ranks.census import laid_out, layout_of, misheld, packed, read, told_of, unpacked
from steadygrad.ranks.peers import Peers
from steadygrad.ranks.replica_groups import ReplicaGroups
from steadygrad.ranks.word import agree

PATIENCE_S = 10.0
"""Longest wait for the others: they have just ended the same step."""


class Newcomers:
    """This rank's side of those meetings, for one optimizer.

    Args:
        peers: who takes part.
        groups: over which ranks tensors are replicated, as it was handed in here.
        optimizer: index of the optimizer.
    """

    def __init__(self, peers: Peers, groups: ReplicaGroups, optimizer: int) -> None:
        self._peers = peers
        self._groups = groups
        self._optimizer = optimizer
        self._meetings = 0

    def meet(self, table: ParamTable, rates: Sequence[object]) -> Layout | str:
        """Tell the others what has joined here, and hear what has joined there; every rank has to call.

        Args:
            table: the optimizer's parameters.
            rates: what must be alike on all ranks for them to come to one verdict.

        Returns:
            Rows to append, the same on every rank; or why none can be.

        Raises:
            RankLost: rank 0, which serves the store, is gone.
        """
        self._meetings += 1
        rows = [told_of(*one, self._groups) for one in table.strangers]
        taken = {tensor.name for tensor in table.tensors}
        answer = agree(
            self._peers,
            f"joined/{self._optimizer}/{self._meetings}",
            packed({"tables": [rows], "rates": rates}),
            lambda heard: json.dumps(_judge(heard, self._peers.world, taken)),
            unheard=json.dumps({"why": "rank 0 doesn't answer"}),
            patience_s=PATIENCE_S,
        )
        word = json.loads(answer)
        if "why" in word:
            return str(word["why"])
        return layout_of(
            self._peers.rank,
            unpacked(word["rows"])["tables"][0],
            [(one.info.name, one.param) for one in table.strangers],
            self._groups,
            self._optimizer,
            table.last_group,
        )


def _judge(heard: dict[int, str], world: int, taken: AbstractSet[str]) -> dict[str, Any]:
    missing = [rank for rank in range(world) if rank not in heard]
    if missing:
        return {"why": f"ranks {missing} don't answer"}
    notes = read([heard[rank] for rank in range(world)])
    if why := misheld(notes):
        return {"why": why}
    unlike = [rank for rank, note in enumerate(notes) if note["rates"] != notes[0]["rates"]]
    if unlike:
        return {
            "why": "the policy sets the step beside the weights of all ranks, so each optimizer needs the same parameter groups "
            f'(rate, momentum), {{"params": []}} where a rank has none in one; rank {unlike[0]} has others than rank 0'
        }
    return {"rows": packed({"tables": laid_out(notes, taken)})}
