"""Methods of somebody else's object, replaced on that one object for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_OF_THE_CLASS = object()


class Borrowed:
    """Replaces methods on single objects, never on classes, and puts everything back."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def wrap(self, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace ``owner.name`` by ``make(owner.name)``."""
        self._before.append((owner, name, vars(owner).get(name, _OF_THE_CLASS)))
        setattr(owner, name, make(getattr(owner, name)))

    def give_back(self) -> None:
        """Put back what was there, the newest first."""
        while self._before:
            owner, name, before = self._before.pop()
            if before is _OF_THE_CLASS:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
