"""Weight decay that takes the weights away faster than they can learn."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import make
from steadygrad.records import Finding, Reading, Remedy


class DecayState(NamedTuple):
    """How long the weights were.

    Attributes:
        length: of all of them together when they were first measured; 0 before.
        told: whether it has been said.
    """

    length: float = 0.0
    told: bool = False


@dataclass(frozen=True, slots=True)
class DecayTooStrong:
    """All weights together have shrunk to a tenth, and the decay takes a good part of them at every step.

    A decay ``w`` multiplies the weights by ``1 - lr * w`` a step. Usual ones take 1e-6 to 1e-4: even with weights that
    receive nothing else, a tenth is only reached after thousands of steps.

    Attributes:
        share: what the decay must take in a step.
        shrunk: length relative to the first.
    """

    share: float = 0.01
    shrunk: float = 0.1

    def start(self) -> DecayState:
        """Nothing measured yet."""
        return DecayState()

    def observe(
        self, state: DecayState, reading: Reading, context: Context
    ) -> tuple[DecayState, Finding | None]:
        """Look at a reading that brings the lengths of the weights."""
        lengths = reading.param_norms
        if state.told or lengths is None:
            return state, None
        with np.errstate(over="ignore", invalid="ignore"):
            length = float(np.linalg.norm(lengths.astype(np.float64)))
        if not state.length:
            return DecayState(length if math.isfinite(length) else 0.0), None
        taken = reading.lr * context.weight_decay
        if taken < self.share or not length <= self.shrunk * state.length:
            return state, None
        return state._replace(told=True), self._report(state.length, length, taken, reading, context)

    def _report(
        self, before: float, length: float, taken: float, reading: Reading, context: Context
    ) -> Finding:
        found = make(
            "oversized_update",
            "warning",
            0,
            f"Weight decay takes {min(taken, 1.0):.0%} of the weights at every step (decay {context.weight_decay:.3g} x "
            f"learning rate {reading.lr:.3g}): they have shrunk to {length / before:.2g} of their length.",
            evidence={"taken": taken, "shrunk": length / before, "lr": reading.lr},
            optimizer=context.optimizer,
            guarded=context.mode == "guard",
        )
        cure = Remedy(
            "Lower the weight decay", "torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)"
        )
        cause = "The weight decay is so strong that nothing learnt can stay."
        return replace(found, causes=(cause, *found.causes), remedies=(cure, *found.remedies))
