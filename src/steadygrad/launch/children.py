"""Child processes of a script that train too: Hogwild, ``mp.spawn``, pools.

A forked child has all that its parent had. A spawned one is a new interpreter that imports the script
again, and knows of us only what its parent sends it: `multiprocessing` sends a dict of settings before
anything else, and ours rides along.
"""

from __future__ import annotations

import multiprocessing.spawn
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import current_process, parent_process, util
from typing import Any

from steadygrad.launch.on_import import OnImport
from steadygrad.launch.orders import Orders
from steadygrad.launch.shadow import OwnModules

_KEY = "steadygrad"
# A child that can't import us does without: it must not fail.
_BEGIN = """
try:
    import pickle, sys
    path = sys.path[:]
    sys.path[:] = [one for one in path if one]
    try:
        pickle.loads(given)()
    finally:
        sys.path[:] = path
except Exception:
    pass
"""


class Beginning:
    """What is sent to a spawned child; calling it there begins to watch.

    Args:
        orders: what to do.
        folder: the script's folder, whose modules must not become ours, nor ours the script's.
    """

    def __init__(self, orders: Orders, folder: str) -> None:
        self.orders = orders
        self.folder = folder

    def __call__(self) -> None:
        """Begin, in the child: as soon as it imports torch."""
        from steadygrad.launch.result import Result  # noqa: PLC0415 - so that all of ours is imported here
        from steadygrad.launch.run import arm_into  # noqa: PLC0415 - it imports this module

        own = OwnModules()
        own.make_way(None, self.folder)
        OnImport("torch", lambda: arm_into(own, self.orders, Result())).wait()


class _Sent:
    """A beginning that unpickles into None, by code of the standard library alone."""

    def __init__(self, beginning: Beginning) -> None:
        self._beginning = beginning

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (_BEGIN, {"given": pickle.dumps(self._beginning)})


def follow_spawned(orders: Orders) -> None:
    """Have every process that this one spawns watched as well.

    Args:
        orders: what to do there.
    """
    original = multiprocessing.spawn.get_preparation_data
    sent = _Sent(Beginning(replace(orders, child=True), sys.path[0] if sys.path else ""))

    def get_preparation_data(name: str) -> dict[str, Any]:
        data: dict[str, Any] = original(name)
        return {_KEY: sent, **data}

    multiprocessing.spawn.get_preparation_data = get_preparation_data


def child_name() -> str:
    """What tells the run files of one child from those of another: ``process1``, ``process2.1``."""
    numbers = getattr(current_process(), "_identity", ()) if parent_process() else ()
    return f"process{'.'.join(map(str, numbers or (os.getpid(),)))}"


def at_end_of_child(call: Callable[[], None]) -> None:
    """Have something done when a child of `multiprocessing` ends, where ``atexit`` may not be asked."""
    if parent_process() is not None:
        util.Finalize(None, call, exitpriority=0)
