"""The copies of one rank of several: a copy counts where every rank has one of the same step, or nowhere."""

from __future__ import annotations

import time
from typing import Any

from steadygrad.ranks import Flags
from steadygrad.recover.keeper import PROBATION, Keeper, Snapshot, TooLargeError


class JointKeeper(Keeper):
    """Takes a copy when every rank can afford one, and trusts it when every rank has found it sound.

    What the ranks have to tell each other goes with the collective of each step, so all that changes which copies
    there are happens at the same step on each.

    Args:
        args: see `Keeper`.
        kwargs: see `Keeper`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.world = 1
        self._heard = Flags()
        self._is_due = False
        self._unfit: Snapshot | None = None

    def flags(self) -> Flags:
        """What the others need to know."""
        pending = self._pending
        is_unfit = pending is not None and pending is self._unfit
        is_sound = pending is not None and pending.sound and not is_unfit
        return Flags(due=float(self._is_due), sound=float(is_sound), unfit=float(is_unfit))

    def hear(self, heard: Flags) -> None:
        """What all ranks together have told."""
        self._heard = heard
        if heard.unfit:
            self._drop_pending()

    def again(self, step: int) -> None:
        """A checkpoint was loaded: a copy of it is trusted as soon as every rank has found its own sound."""
        self.went_back()
        self.drop_ruined()
        self._take(step)
        if self._pending is not None:
            self._pending.clean = PROBATION

    def _wants(self, step: int) -> bool:
        self._is_due = self._budget.due(step)
        return self._heard.due == self.world

    def _is_proven(self, pending: Snapshot) -> bool:
        return pending.clean >= PROBATION and self._heard.sound == self.world

    def _reject(self) -> None:
        self._unfit = self._pending

    def _drop_pending(self) -> None:
        if self._pending is not None and not self._pending.kept:
            self._pending = None  # there is no copy in it whose memory could be used again
        super()._drop_pending()

    def _take(self, step: int) -> None:
        began = time.perf_counter()
        try:
            super()._take(step)
        except TooLargeError:
            raise
        except (MemoryError, RuntimeError):  # torch says it with the latter
            self._pending = self._unfit = Snapshot(step, {})
            self._budget.paid(step, time.perf_counter() - began)
