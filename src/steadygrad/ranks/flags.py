"""What recovery on one rank has to tell the others with each step's collective, as numbers that add up."""

from __future__ import annotations

from typing import NamedTuple


class Flags(NamedTuple):
    """One number a fact: 1 where it is so on this rank, and in the sum the number of ranks where it is.

    Attributes:
        due: a copy of the state fits this rank's budget.
        sound: the newest copy was looked through and found well.
        unfit: the newest copy could not be taken, or is of ill numbers.
        trouble: the state is ruined.
        loaded: a checkpoint was loaded.
        off: this rank doesn't recover.
    """

    due: float = 0.0
    sound: float = 0.0
    unfit: float = 0.0
    trouble: float = 0.0
    loaded: float = 0.0
    off: float = 0.0


SILENT = Flags(off=1.0)
"""Of a rank whose recovery says nothing: it has none, or that has failed."""
