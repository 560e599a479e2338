"""Parameters that join an optimizer whose rows the ranks have agreed on: said once, and left out."""

from __future__ import annotations

from collections.abc import Callable

from steadygrad.detect.finding import listed
from steadygrad.measure import ParamTable


class Strangers:
    """Says which parameters have joined that the other ranks have no rows for.

    Args:
        table: one optimizer's parameters.
        say: one line for the user, under a key.
    """

    def __init__(self, table: ParamTable, say: Callable[[str, str], None]) -> None:
        self._table = table
        self._say = say
        self._known: frozenset[str] = frozenset()

    def look(self) -> None:
        """The table has been brought up to the optimizer's groups."""
        names = self._table.strangers
        new, self._known = frozenset(names) - self._known, frozenset(names)
        if new:
            self._say(
                "strangers",
                f"{listed(names)}: joined the optimizer after the ranks had told each other what they hold, so neither "
                "measured nor clipped (a step that is skipped is skipped for all). Close the guard on every rank and attach it "
                "again to have them measured.",
            )
