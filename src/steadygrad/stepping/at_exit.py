"""A script that just ends loses nothing that was put off."""

from __future__ import annotations

import atexit
import weakref
from typing import Protocol


class Settles(Protocol):
    """Whoever puts things off."""

    def settle(self) -> object:
        """Do what was put off."""


_alive: weakref.WeakSet[Settles] = weakref.WeakSet()


def settled_at_exit(one: Settles) -> None:
    """Have ``one`` settle at interpreter exit, while it lives; last in, so before the run files are closed."""
    _alive.add(one)


def _settle_all() -> None:
    for one in tuple(_alive):
        one.settle()


atexit.register(_settle_all)
