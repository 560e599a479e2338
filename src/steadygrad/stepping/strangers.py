"""Parameters that join an optimizer whose rows the ranks have agreed on: all ranks agree on more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steadygrad.detect.finding import listed
from steadygrad.measure import ParamTable
from steadygrad.ranks import Newcomers, Ranks
from steadygrad.records import TensorInfo


class Strangers:
    """Has the ranks meet when parameters have joined on one of them that the others have no rows for.

    Args:
        table: one optimizer's parameters.
        say: one line for the user, under a key.
    """

    def __init__(self, table: ParamTable, say: Callable[[str, str], None]) -> None:
        self._table = table
        self._say = say
        self._known: frozenset[int] = frozenset()
        self._ranks: Ranks | None = None
        self._newcomers: Newcomers | None = None
        self._rates: Callable[[], Sequence[object]] = tuple

    def join(self, ranks: Ranks, newcomers: Newcomers, rates: Callable[[], Sequence[object]]) -> None:
        """There are other ranks, which hold other tensors.

        Args:
            ranks: this rank's side of the collective.
            newcomers: this rank's side of a meeting.
            rates: of the optimizer's groups, where they must be the same on all ranks.
        """
        self._ranks, self._newcomers, self._rates = ranks, newcomers, rates

    def look(self) -> None:
        """The table has been brought up to the optimizer's groups: what is new is told to the others with this step."""
        there = frozenset(id(one.param) for one in self._table.strangers)
        new, self._known = there - self._known, there
        if new and self._ranks is not None:
            self._ranks.joins = True

    def admit(self) -> list[TensorInfo]:
        """Take in what has joined on any rank; the rows appended. All ranks have to call, at the end of the same step.

        Raises:
            RankLost: rank 0 is gone.
        """
        if self._ranks is None or self._newcomers is None:
            return []
        met = self._newcomers.meet(self._table, self._rates())
        if isinstance(met, str):
            self._ranks.settled(None)
            self._tell(met)
            return []
        added = self._table.admit(met)
        self._ranks.settled(self._table.layout)
        self._known = frozenset()
        return added

    def _tell(self, why: str) -> None:
        names = [one.info.name for one in self._table.strangers]
        if names:
            self._say(
                "strangers",
                f"{listed(names)}: joined the optimizer after the ranks had told each other what they hold, and can't be taken "
                f"in: {why}. So neither measured nor clipped; a step that is skipped is skipped for all.",
            )
