"""Whether an object is only still there because a loop has left its variable behind."""

from __future__ import annotations

import dis
import gc
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any

_UNPACKING = frozenset({"UNPACK_SEQUENCE", "UNPACK_EX"})
_PADDING = frozenset({"CACHE", "EXTENDED_ARG"})


def left_by_a_loop(one: object, ours: Sequence[object]) -> bool:
    """Whether nothing holds an object but the variable of a loop: ``layer`` of ``for layer in model.modules()``.

    Args:
        one: the object.
        ours: what of ours refers to it.

    Returns:
        False also where that can't be told.
    """
    scopes, wanted = list(_scopes()), id(one)  # a comprehension that asked for the object would hold it too
    names = [(name, code) for code, held in scopes for name in list(held) if id(held[name]) == wanted]
    if not names or not all(name in _loop_variables(code) for name, code in names):
        return False
    known = {id(held) for _, held in scopes} | {id(thing) for thing in ours}
    # A frame's variables were asked for above.
    return all(id(thing) in known or isinstance(thing, FrameType) for thing in gc.get_referrers(one))


def _scopes() -> Iterator[tuple[CodeType, Mapping[str, Any]]]:
    """The code under way that isn't ours or torch's, and its variables."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - who else could know?
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] not in {"torch", "steadygrad"}:
            yield frame.f_code, frame.f_locals
        frame = frame.f_back


def _loop_variables(code: CodeType) -> set[str]:
    """The names that a ``for`` of this code binds."""
    found: set[str] = set()
    binds = False
    for instruction in dis.get_instructions(code):
        if instruction.opname == "FOR_ITER":
            binds = True
        elif instruction.opname.startswith("STORE_") and binds:
            # Some versions store two at once, or store one and load another.
            value = instruction.argval
            found.update(value if isinstance(value, tuple) else (str(value),))
        elif instruction.opname not in _UNPACKING | _PADDING:
            binds = False
    return found
