"""A script that just ends loses nothing that was put off, and one that forks says it once."""

from __future__ import annotations

import atexit
import os
import weakref
from contextlib import suppress
from functools import cache
from typing import Protocol


class Settles(Protocol):
    """Whoever puts things off."""

    def settle(self) -> object:
        """Do what was put off."""


_alive: weakref.WeakSet[Settles] = weakref.WeakSet()


def settled_at_exit(one: Settles) -> None:
    """Have ``one`` settle at interpreter exit, while it lives, before the run files are closed."""
    _register()
    _alive.add(one)


@cache
def _register() -> None:
    # Last in is first out: by now whoever closes run files has registered, which at import nobody knows.
    atexit.register(_settle_all)
    if hasattr(os, "register_at_fork"):  # else parent and child would both do it
        os.register_at_fork(before=_settle_all)


def _settle_all() -> None:
    # Twice, because they stand in no order, and one puts off what it is told by another.
    for _ in range(2):
        for one in tuple(_alive):
            with suppress(Exception):  # of one training, and the others have something to tell too
                one.settle()
