"""How much is written down when something goes wrong: `bundles`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from steadygrad.errors import UsageError

LIMIT = "STEADYGRAD_INCIDENTS_MB"
MAX_BYTES = 256_000_000
"""The state of 20 million parameters under Adam, or many of a smaller one: no more than a checkpoint or two."""
MOST = 16
"""Bundles a run: who has not seen the fault in these won't see it in more."""


@dataclass(frozen=True, slots=True)
class Bundles:
    """What is kept of an incident; made by `bundles`.

    Attributes:
        max_bytes: most bytes on disk for all bundles of a run; 0 writes none.
        most: most bundles a run writes.
        state: whether parameters and optimizer state are kept; None keeps them where they fit.
        batch: returns what the loss function takes besides the model's output, or None.
    """

    max_bytes: float = MAX_BYTES
    most: int = MOST
    state: bool | None = None
    batch: Callable[[], Any] | None = None


def bundles(
    *,
    max_bytes: int = MAX_BYTES,
    most: int = MOST,
    state: bool | None = None,
    batch: Callable[[], Any] | None = None,
) -> Bundles:
    """Say what an incident bundle holds, and how much room they may take.

    A guard with a run file writes one at the first step of every streak of skipped steps, at every rollback
    and when it stops the training: a folder beside the run file, for ``steadygrad replay``. It is written in
    the background. A full disk ends the writing, and never the training. The environment variable
    ``STEADYGRAD_INCIDENTS_MB`` sets ``max_bytes`` from outside; 0 writes nothing.

    Args:
        max_bytes: most bytes for all bundles of a run; the oldest make room for the newest.
        most: most bundles a run writes, half of them for skipped steps; a last one is written at a stop.
        state: whether parameters, buffers and optimizer state are kept. By default where they fit
            ``max_bytes``.
        batch: returns what ``loss_fn(output, batch)`` takes in the present step. Without it the bundle
            knows what the model was given; with a target that only the loss function sees, the replayed loss
            would be that of another target.

    Returns:
        What ``sg.recover.rollback(bundles=...)`` takes.

    Raises:
        UsageError: an argument can't be used.

    Example:
        >>> import steadygrad as sg
        >>> plan = sg.recover.rollback(bundles=sg.recover.bundles(max_bytes=10_000_000, state=False))
    """
    _check_count("max_bytes", max_bytes, 0)
    _check_count("most", most, 1)
    if batch is not None and not callable(batch):
        raise UsageError(
            f"bundles(batch=...): expected a function that returns the batch of the present step, got "
            f"{type(batch).__name__}. For example: batch=lambda: (x, y)."
        )
    return Bundles(max_bytes, most, state, batch)


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"bundles({name}={value!r}): expected a whole number of at least {least}.")


def as_allowed(plan: Bundles) -> Bundles:
    """The plan, with what the environment says.

    Raises:
        UsageError: the environment says something that is no number.
    """
    text = os.environ.get(LIMIT, "")
    if not text:
        return plan
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = math.nan
    if not megabytes >= 0.0:
        raise UsageError(f"{LIMIT}={text!r}: expected a number of megabytes, or 0 for no incident bundles.")
    return replace(plan, max_bytes=megabytes * 1e6)
