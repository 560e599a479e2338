"""The three ways to train: plain, with the textbook clip, and under the guard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from steadygrad import Monitor, guard, watch


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train.

    Attributes:
        key: short name, the end of its run files' names.
        label: how a person would write it.
        attach: `watch` or `guard`, with everything at its default.
        max_norm: what ``clip_grad_norm_`` is called with between backward and step; None where it
            isn't called.
    """

    key: str
    label: str
    attach: Callable[..., Monitor]
    max_norm: float | None = None


PLAIN = Arm("plain", "plain", watch)
CLIP = Arm("clip", "clip_grad_norm_(1.0)", watch, max_norm=1.0)
GUARD = Arm("guard", "sg.guard", guard)
ARMS = (PLAIN, CLIP, GUARD)
