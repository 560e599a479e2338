"""Rows of the batch that a trial doesn't learn from, and what it makes of them."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steadygrad.calling import exchanged, loss_of
from steadygrad.checkup.look import Look
from steadygrad.checkup.reach import Reached, reachable
from steadygrad.checkup.rehearsal import Setup

PART = 4
"""One row of so many is held out."""

FEWEST = 8
"""Rows below which nothing is held out."""

ADDS_UP = 0.02
"""Share of the guess's loss by which the losses of two parts may miss that of the whole."""

SHALLOWEST = 0.95
"""Share of a guess's loss that the best output must take away: one that takes less may not be the best."""

DEEPEST = 100.0
"""Times a guess's loss that the lowest one may lie below it: a loss without a floor has no best output to put in."""


@dataclass(frozen=True, slots=True)
class Held:
    """Which rows are held out, and what a loss function that sees only whole batches would say of a part.

    A loss that is a sum or a mean over rows is asked for a part by giving it the best output in the other rows:

    ``L(part) = L(best) + (L(output in the part, best elsewhere) - L(best)) * rows / rows of the part``

    Attributes:
        rows: ``[N]``, whether a row is held out.
        best: the output with the lowest loss.
        floor: the loss of it.
        guess: loss of a constant guess in the rows that are learnt from.
        held_guess: the same in those that are held out.
    """

    rows: Tensor
    best: Tensor
    floor: float
    guess: float
    held_guess: float

    def listen(self, setup: Setup, shares: list[float]) -> None:
        """Let a setup learn from the other rows alone; the share of a guess's loss in these is added at each step."""
        loss_fn, place = setup.loss_fn, setup.place

        def ask(output: Any, batch: object, rows: Tensor) -> Tensor:
            return loss_of(exchanged(output, place, lambda one: mixed(one, self.best, rows)), batch, loss_fn)

        def learnt(output: Any, batch: object) -> Tensor:
            with torch.no_grad():
                held = self._of_part(ask(output, batch, self.rows), self.rows)
                shares.append(float((held - self.floor) / (self.held_guess - self.floor)))
            return self._of_part(ask(output, batch, ~self.rows), ~self.rows)

        setup.loss_fn = learnt

    def _of_part(self, loss: Tensor, rows: Tensor) -> Tensor:
        return self.floor + (loss - self.floor) * (len(rows) / int(rows.sum()))


def hold_out(seen: Look, guess: Reached) -> Held | None:
    """Rows that can be held out; None where the loss isn't a sum over rows, or there are too few.

    Args:
        seen: what one step showed.
        guess: the best constant output and its loss.
    """
    output = seen.output_tensor
    if output is None or output.dim() == 0 or len(output) < FEWEST or not 0 < guess.loss < math.inf:
        return None
    with contextlib.suppress(Exception):
        return _held(seen, guess.at.expand(output.shape), guess)
    return None


def _held(seen: Look, other: Tensor, guess: Reached) -> Held | None:
    # From the guess, since an output that exploded is a bad place to begin.
    found = reachable(seen.loss_at, reachable(seen.loss_at, other.contiguous()).at)
    order = torch.randperm(len(other), generator=torch.Generator().manual_seed(0)).to(other.device)
    rows = order < len(other) // PART

    def part(which: Tensor) -> float:
        with torch.no_grad():
            return float(seen.loss_at(mixed(other, found.at, which))) - found.loss

    learnt, held, depth = part(~rows), part(rows), guess.loss - found.loss
    adds_up = abs(learnt + held - depth) <= ADDS_UP * depth
    deep = SHALLOWEST * guess.loss <= depth <= DEEPEST * guess.loss
    if not (adds_up and learnt > 0 and held > 0 and deep):
        return None
    count, out = len(rows), int(rows.sum())
    guesses = (found.loss + learnt * count / (count - out), found.loss + held * count / out)
    return Held(rows, found.at, found.loss, *guesses) if min(guesses) > 0 else None


def mixed(output: Tensor, best: Tensor, rows: Tensor) -> Tensor:
    """The output in these rows, the best in the others."""
    return torch.where(rows.view(-1, *[1] * (output.dim() - 1)), output, best.to(output.dtype))
