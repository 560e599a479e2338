"""Two generations of copies: one that is trusted, one that has to prove itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steadygrad.measure import Budget, own_part
from steadygrad.recover.soundness import Inspection
from steadygrad.recover.state import Live, TrainingState

PROBATION = 12
"""Clean steps after which a copy is trusted: a blow-up takes a few steps from its cause to its first sign, and what is
measured every ten steps must have been measured once."""
SNAPSHOT_SHARE = 0.2
"""Share of the guard's overhead that copies may take; measuring takes most of it."""
FREE_SHARE = 0.25
"""Share of the free memory that a guard takes which nobody told to recover."""
BUFFERS_EVERY = 10
"""Steps between two looks at the buffers: as often as the weights' norms are measured."""


@dataclass(slots=True, eq=False)
class Snapshot:
    """A copy of the state.

    Attributes:
        step: optimizer steps made before it.
        kept: the copy.
        clean: clean steps since.
        sound: whether its numbers were looked through and found well.
        ill: names of what wasn't finite when the run began, of a copy taken then.
    """

    step: int
    kept: dict[str, Any]
    clean: int = 0
    sound: bool = False
    ill: tuple[str, ...] = ()


class TooLargeError(MemoryError):
    """Two copies of the state don't fit the memory they may take."""


class Keeper:
    """Takes copies as often as they may cost, and knows which of them to trust.

    Args:
        state: what is copied.
        inspection: looks through it.
        budget: spaces the copies.
        every: fixed spacing instead, in steps.
        max_bytes: most memory for both copies together; asked for when a copy is due.
    """

    def __init__(
        self,
        state: TrainingState,
        inspection: Inspection,
        budget: Budget,
        *,
        every: int | None,
        max_bytes: Callable[[], float],
    ) -> None:
        self.good: Snapshot | None = None
        self.ruined: dict[str, Any] | None = None
        self.nbytes = 0
        self.taken = 0
        self._state = state
        self._inspection = inspection
        self._budget = budget
        self._every = every
        self._max_bytes = max_bytes
        self._pending: Snapshot | None = None
        self._spare: dict[str, Any] | None = None
        self._asked: list[Snapshot | None] = []
        self._void = 0
        self._cost: tuple[int, torch.Event, torch.Event] | None = None

    def first(self, step: int = 0, ill: Sequence[str] = ()) -> None:
        """Copy the state that a run begins or goes on with: there is nothing before it, so it is trusted, but for what is ill."""
        began = time.perf_counter()
        self.went_back()
        self.drop_ruined()
        live = self._state.live()
        self._make_room(live)
        before = None if self.good is None else self.good.kept
        self.good = Snapshot(step, self._state.copy(live, before), PROBATION, sound=True, ill=tuple(ill))
        self._budget.owe(time.perf_counter() - began)

    def ill(self) -> list[str]:
        """What the newest look through state or buffers found; call once a step."""
        found: list[str] = []
        while self._asked and (names := self._inspection.take()) is not None:
            looked_at = self._asked.pop(0)
            if self._void:
                self._void -= 1
                continue
            found += names
            if looked_at is not None:
                looked_at.sound = not names
                if names and looked_at is self._pending:
                    self._reject()
        return found

    def look_at_buffers(self) -> None:
        """Look through the buffers now."""
        self._inspection.start(Live({}, self._state.buffers(), [], {}))
        self._asked.append(None)

    @property
    def looks(self) -> bool:
        """Whether a look through state or buffers is waiting to be taken in."""
        return bool(self._asked)

    def next_due(self, step: int) -> float:
        """After how many steps in all the next copy or look is due, as far as that is known when ``step`` have been made."""
        look = BUFFERS_EVERY * (step // BUFFERS_EVERY + 1)
        if self._every is not None:
            return min(look, self._every * (step // self._every + 1))
        proven = step if self._pending is None else step + PROBATION - self._pending.clean
        copy = max(self._budget.next_due, proven)
        return min(look, copy) if copy > step else look

    def step(self, step: int, *, clean: bool) -> None:
        """One step has been made, and the state is what it left; copy it if it is time to."""
        is_due = self._wants(step)
        if self._cost is not None:
            self._settle_cost()
        self.was_made(clean=clean)
        if self._every is not None:
            is_due = step % self._every == 0
        if is_due and clean and self._pending is None:
            self._take(step)
        elif step % BUFFERS_EVERY == 0:
            self.look_at_buffers()

    def was_made(self, *, clean: bool) -> None:
        """One step has been made, and others since: it proves what it proves, but the state isn't that of it any more."""
        if self._pending is not None:
            self._prove(self._pending, clean=clean)

    def went_back(self) -> None:
        """The state is that of the trusted copy again; a younger copy is worth nothing."""
        self._drop_pending()
        self._void = len(self._asked)

    def _reject(self) -> None:
        """The younger copy is of ill numbers."""
        self._drop_pending()

    def _drop_pending(self) -> None:
        if self._pending is not None:
            self._spare, self._pending = self._pending.kept, None

    def keep_ruined(self) -> None:
        """Copy the state that a rollback gives up, into the place of the younger copy: it may have been the right one."""
        self._drop_pending()
        if self.ruined is None:
            self.ruined = self._state.copy(self._state.live(), self._spare)
            self._spare = None

    def drop_ruined(self) -> None:
        """That was right."""
        if self.ruined is not None:
            self._spare, self.ruined = self.ruined, None

    def _wants(self, step: int) -> bool:
        """Whether a copy fits the budget."""
        return self._budget.due(step)

    def _is_proven(self, pending: Snapshot) -> bool:
        return pending.clean >= PROBATION and pending.sound

    def _prove(self, pending: Snapshot, *, clean: bool) -> None:
        pending.clean = pending.clean + 1 if clean else 0
        if self._is_proven(pending):
            self._spare = None if self.good is None else self.good.kept
            self.good, self._pending = pending, None

    def _take(self, step: int) -> None:
        began = time.perf_counter()
        live = self._state.live()
        if self._spare is None:
            self._make_room(live)
        start = _event(live)
        self._pending = Snapshot(step, self._state.copy(live, self._spare))
        self._spare = None
        self._inspection.start(live, self._state.optimizers)
        end = _event(live)
        self._asked.append(self._pending)
        self.taken += 1
        self._budget.paid(step, time.perf_counter() - began)
        if start is not None and end is not None:
            self._cost = step, start, end

    def _make_room(self, live: Live) -> None:
        self.nbytes = needed = 2 * live.nbytes()
        allowed = self._max_bytes()
        if needed > allowed:
            raise TooLargeError(
                f"two copies of the training's state take {needed / 1e9:.2f} GB of host memory, "
                f"{allowed / 1e9:.2f} GB are allowed"
            )

    def _settle_cost(self) -> None:
        """Account for a copy from an accelerator: what it took there is known later, and not waited for."""
        if self._cost is None or not self._cost[2].query():
            return
        step, start, end = self._cost
        self._cost = None
        self._budget.paid(step, start.elapsed_time(end) / 1000.0)


def _event(live: Live) -> torch.Event | None:
    device = live.device()
    if device.type != "cuda":
        return None
    event = torch.Event(device, enable_timing=True)
    event.record()
    return event


def is_concentrated(tensor: Tensor, norm: float | None = None) -> bool:
    """Whether a few elements hold more than half of the squared norm: the mark of flipped bits.

    Args:
        tensor: of one that is cut this rank's part is looked at.
        norm: of all its parts together, not much older than they are; None where there are no others.
    """
    values = own_part(tensor.detach()).abs().reshape(-1).to(torch.float64)
    few = min(values.numel(), max(1, min(8, tensor.numel() // 8)))
    if not few:
        return False
    largest = values.amax().clamp(min=1e-300)
    squares = (values / largest).square()
    whole = squares.sum() if norm is None else (norm / largest).square()
    return bool(squares.topk(few).values.sum() > 0.5 * whole)
