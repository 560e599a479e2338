"""A fault of steadygrad's own never stops a training: the part that failed is switched off, once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from steadygrad.errors import TrainingStopped

T = TypeVar("T")
_log = logging.getLogger("steadygrad")


class Containment:
    """Runs steadygrad's own parts and holds their faults back.

    Only ever wraps code of ours: a user's closure or hook runs outside. `TrainingStopped` passes,
    because stopping is then the point.

    Args:
        on_fault: called once a part, with a line for the user.
    """

    def __init__(self, on_fault: Callable[[str], None]) -> None:
        self._on_fault = on_fault
        self.off: set[str] = set()

    def run(self, part: str, call: Callable[..., T], *args: object) -> T | None:
        """Call; if that fails, switch ``part`` off and return None from then on."""
        if part in self.off:
            return None
        try:
            return call(*args)
        except TrainingStopped:
            raise
        except Exception as fault:  # noqa: BLE001 - whatever it is, the training must go on
            self.off.add(part)
            _log.debug("steadygrad's %s failed", part, exc_info=True)
            # A terminal that is gone must not turn a fault held back into one that isn't.
            with suppress(Exception):
                self._on_fault(
                    f"a fault in steadygrad's own {part} ({type(fault).__name__}: {fault}): that part is switched "
                    "off, the training goes on. Please report it."
                )
            return None
