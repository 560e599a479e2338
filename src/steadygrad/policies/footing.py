"""Signs that a run loses its footing, in plain floats: what `auto` looks at.

Two measures, both free of the loss's scale: how far a gradient norm stands above its recent history
(growth), and how far its step would carry the weights beside their own length (reach).
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from steadygrad.policies.base import PUT_OFF
from steadygrad.policies.history import NormWindow

if TYPE_CHECKING:
    from collections.abc import Mapping

REACH = 0.75
"""Reach times depth that no healthy run has at its start: 27 controls stay below 0.33, unstable ones begin at 0.9
to 200. Later it is no sign: a loss that leaves its plateau goes to 2 for a few steps, and all is well."""
HOT = 1 / 3
"""Reach times depth of a rate that is too high, where three quarters of the last 32 steps exceed it: healthy runs
stay below 0.27, runs that end several times worse than at a lower rate are at 0.34 to 0.65."""
CALM = 0.1
"""Reach times depth below which an engaged run is calm; let go at 0.25, a bad start is lost after all."""
SLIP = 10.0
"""Growth times reach that is a slip; at sane rates controls stay below, explosions pass 1000 in a few steps."""
SPIKE = 32.0
"""Growth that is a spike where reach says nothing: one of 32 doubles Adam's second moment."""

RECURRING = 8
"""Spikes, apart from each other, within `RECENT` steps that show that they belong to the run."""
RECENT = 256
"""Steps in which recurring spikes are counted."""
HEARD = 8.0
"""Weight of a recurring spike; 8 serves a rare reward and survives faulty batches, 1 and 32 fail at one."""

_FIRST = 10
_HOT_WINDOW = 32
_WINDOW = 80
_LAST = 8
_MIN_HISTORY = 2
_TYPICAL_QUANTILE = 0.25
_LOW_QUANTILE = 0.05
_LOUDEST = math.log(10.0)
# A step without any gradient carries the weights nowhere, and there is no logarithm of nowhere.
_STILL = 1e-30
_LOG_HOT = math.log(HOT)
# The quartile lies between this one of the reaches in order and the one before.
_NEXT_TO_QUARTILE = math.ceil(_TYPICAL_QUANTILE * (_HOT_WINDOW - 1))
# Whichever way the logarithm of it is rounded.
_JUST_BELOW = 1.0 - 1e-9


class _Levels(NamedTuple):
    """What the recent norms say, infinite while there are too few of them.

    Attributes:
        typical: lower quartile of the window.
        usual: the same, or that of the last 8 where it is larger.
        spike: norm above which the next step is a spike.
    """

    typical: float
    usual: float
    spike: float


class Footing:
    """The recent norms, and the limits for the next one that follow from them.

    The typical norm is the lower quartile of the last 80: bad batches in up to two thirds of the
    steps leave it alone (they move a median when they are every second step), and a lasting rise of
    the level has at most 61 steps to wait until it is typical.
    """

    def __init__(self) -> None:
        """Start with no history."""
        self._window = NormWindow(_WINDOW)
        self._last = NormWindow(_LAST)
        self._reach = NormWindow(_HOT_WINDOW)
        self._spike_steps: deque[int] = deque(maxlen=RECURRING)
        self._steps = 0
        self._in_spike = False
        self._known: _Levels | None = None

    @property
    def hot(self) -> bool:
        """Whether steps have been too long for too many of the last 32: the rate is too high for good."""
        full = len(self._reach) == _HOT_WINDOW
        return full and self._reach.quantile(_TYPICAL_QUANTILE) > _LOG_HOT

    def add(self, norm: float, reach: float = 0.0) -> None:
        """Take in one finite step.

        Args:
            norm: before any scaling; zero says nothing about size.
            reach: its reach times depth; zero where that can't be known.
        """
        self._steps += 1
        if norm > 0.0:
            self._note_spike(norm)
            self._window.add(norm)
            self._last.add(norm)
            self._known = None
            if reach > 0.0:
                self._reach.add(reach)
        elif len(self._reach):
            self._reach.add(_STILL)

    def too_long_for_a_start(self, reach: float) -> bool:
        """Whether the next step, of this reach times depth, is one of the first and too long for it."""
        return self._steps < _FIRST and reach > REACH

    @property
    def recurring(self) -> bool:
        """Whether spikes recur so often that they belong to the run."""
        return len(self._spike_steps) == RECURRING and self._steps - self._spike_steps[0] <= RECENT

    def spike_cap(self) -> float:
        """Cap of a spike: lower quartile of the recent norms, times `HEARD` where spikes recur.

        Infinite while there are too few norms to say.
        """
        typical = (self._known or self._levels()).typical
        return typical * HEARD if self.recurring else typical

    def spike_limit(self) -> float:
        """Norm above which the next step is a spike: far above the typical norm, and sudden.

        Sudden means that it is as far above the last 8. Norms of a recurrent network that breaks
        its symmetry rise tenfold within 16 steps, and all is well. The noisier the low norms are
        (a rare class, tiny batches), the farther up a spike begins, by tenfold at most.
        """
        return (self._known or self._levels()).spike

    def least_spike_limit(self) -> float:
        """What `spike_limit` can't fall below, whatever the next `PUT_OFF` norms are; 0 while that can't be told.

        Each of them moves the lower quartile of the window by one place at most.
        """
        return SPIKE * self._least_typical()

    def slip_limit(self, span: float, depth: float) -> float:
        """Norm above which the next SGD step loses its footing.

        That is ``REACH * span / depth`` at the start, which needs no history and so protects the first
        step, or the ``n`` where ``n / usual * n / span = SLIP`` if it is smaller: a short step may be many times
        the usual one, a long step only a few times. Usual is the typical norm, or the lower quartile
        of the last 8 where that is larger: when a loss leaves its plateau, norms rise tenfold within
        twenty steps, and all is well; an explosion is faster.

        Args:
            span: ``||w|| * (1 - mu) / lr``, the norm of a gradient whose step, momentum played out,
                is as long as the weights.
            depth: root of the number of layers through which a change of the weights compounds; below
                1 it is a network that can hardly run away, and so may slip more.
        """
        reach = REACH if self._steps < _FIRST else math.inf
        usual = (self._known or self._levels()).usual
        return min(reach * span / depth, math.sqrt(SLIP / min(depth, 1.0) * span) * math.sqrt(usual))

    def least_slip_limit(self, span: float, depth: float) -> float:
        """Norm up to which none of the next `PUT_OFF` steps can slip or be `hot`, as long as they all keep to it; ``-inf`` without one.

        Args:
            span: of all of them, as for `slip_limit`.
            depth: likewise.
        """
        if self._steps < _FIRST or len(self._reach) < _HOT_WINDOW or not span < math.inf:
            return -math.inf
        # So many that aren't hot stay so many, for each that comes is one more and pushes out one at most.
        if self._reach.smallest(_NEXT_TO_QUARTILE) > _LOG_HOT:
            return -math.inf
        least = self._least_typical()
        return min(
            _JUST_BELOW * HOT * span / depth, math.sqrt(SLIP / min(depth, 1.0) * span) * math.sqrt(least)
        )

    def _least_typical(self) -> float:
        place = int(_TYPICAL_QUANTILE * (len(self._window) - 1)) - PUT_OFF
        return math.exp(self._window.smallest(place)) if place >= 0 else 0.0

    @staticmethod
    def calm_limit(span: float, depth: float) -> float:
        """Norm below which an SGD step of an engaged run is calm; span and depth as for `slip_limit`."""
        return CALM * span / depth

    def _note_spike(self, norm: float) -> None:
        """Remember where a spike begins: those in a row count once."""
        was_in_spike, self._in_spike = self._in_spike, norm > self.spike_limit()
        if self._in_spike and not was_in_spike:
            self._spike_steps.append(self._steps)

    def _levels(self) -> _Levels:
        """The norms that all limits are made of, worked out once for each new norm."""
        if len(self._window) < _MIN_HISTORY:
            self._known = _Levels(math.inf, math.inf, math.inf)
        else:
            typical, low = self._window.quantiles(_TYPICAL_QUANTILE, _LOW_QUANTILE)
            usual = max(typical, self._last.quantile(_TYPICAL_QUANTILE))
            spike = SPIKE * math.exp(usual + min(typical - low, _LOUDEST))
            self._known = _Levels(math.exp(typical), math.exp(usual), spike)
        return self._known

    def state_dict(self) -> dict[str, Any]:
        """The norms held."""
        return {
            "window": self._window.state_dict(),
            "reach": self._reach.state_dict(),
            "spike_steps": list(self._spike_steps),
            "steps": self._steps,
            "in_spike": self._in_spike,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._window.load_state_dict(state["window"])
        self._last.load_state_dict(state["window"])
        self._reach.load_state_dict(state["reach"])
        self._spike_steps = deque(state["spike_steps"], maxlen=RECURRING)
        self._steps = int(state["steps"])
        self._in_spike = bool(state["in_spike"])
        self._known = None
