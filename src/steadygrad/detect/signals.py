"""What flows through the model in one step, and what detectors make of it.

The signals are looked at live, on the few steps that a probe has listened to. A run file keeps the
findings, not the signals, so a recorded run can't be judged by them anew.

Shape legend: S samples (rows, positions), U units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from steadygrad.detect.finding import listed, make
from steadygrad.detect.sameness import constant_input
from steadygrad.detect.scale import Size, loud_start, unnormalised_input
from steadygrad.detect.through_time import Growth, through_time
from steadygrad.records import SEVERITIES, Finding


@dataclass(frozen=True, slots=True)
class Fired:
    """What the layer before fired: the input of one weighted layer.

    Attributes:
        module: qualified name of the layer that it feeds.
        dead: share of the units that are 0 in every sample.
        low: smallest value.
        high: largest value.
        beyond: share of the values beyond 0.99, either way.
        inside: share of the values that are neither 0 nor 1.
        ends: share of the values below 0.01 or above 0.99.
    """

    module: str
    dead: float
    low: float
    high: float
    beyond: float
    inside: float
    ends: float

    @property
    def stuck(self) -> float:
        """Share at the ends of tanh, or of sigmoid; exact zeros are a ReLU's or a dropout's and not counted."""
        if self.low < -0.5 and self.high > 0.5 and max(-self.low, self.high) <= 1.0:
            return self.beyond
        if self.low >= 0.0 and 0.5 < self.high <= 1.0 and self.inside > 0.5:
            return self.ends
        return 0.0


@dataclass(frozen=True, slots=True)
class Signals:
    """The signals of one step.

    Attributes:
        step: index of the step.
        layers: what feeds each weighted layer, in forward order.
        time: growth through time of each recurrent module.
        fed: size of the data where it enters a layer.
        made: size of what layers have returned, in forward order; only at the first look.
        jumped: the weights aren't the first ones any more, see `steadygrad.detect.scale.is_past_start`.
        few: layers of whose data it can't be said that all is one number: it is little, or tokens.
        off: error of the output over the output, if the loss is a mean of squares.
    """

    step: int
    layers: tuple[Fired, ...] = ()
    time: tuple[Growth, ...] = ()
    fed: tuple[Size, ...] = ()
    made: tuple[Size, ...] = ()
    jumped: bool = False
    few: frozenset[str] = frozenset()
    off: float = math.nan

    @property
    def flat(self) -> float | None:
        """The one number that all data is, everywhere; None where it isn't."""
        numbers = {number for one in self.fed for number in (one.low, one.high)}
        same = len(numbers) == 1 and not self.few
        return numbers.pop() if same else None


class SignalState(NamedTuple):
    """What the looks before showed.

    Attributes:
        dead: looks in a row in which the layer's units were dead, by module.
        stuck: the same for saturated units.
        first: step of the first look.
        told: worst severity told, as its rank, by kind and module.
        flat: looks in a row in which all data was one number.
        number: which.
    """

    dead: Mapping[str, int] = MappingProxyType({})
    stuck: Mapping[str, int] = MappingProxyType({})
    first: int = 0
    told: Mapping[tuple[str, str], int] = MappingProxyType({})
    flat: int = 0
    number: float = 0.0


@dataclass(frozen=True, slots=True)
class SignalDetector:
    """Units that no longer take part, and gradients that explode or vanish through time.

    Attributes:
        dead: share of a layer's units at 0 for every sample; see `steadygrad.checkup.units.DEAD`.
        stuck: share of a layer's values at the ends of its activation; the same.
        looks: looks in a row; a batch may be odd, and a unit that is dead for good stays so.
        young: steps within which saturation is a fault of the start, and a warning; a network that has
            learnt may drive its units to the ends, and that is a note.
    """

    dead: float = 0.9
    stuck: float = 0.7
    looks: int = 3
    young: int = 256

    def start(self) -> SignalState:
        """No look yet."""
        return SignalState(first=-1)

    def observe(
        self, state: SignalState, signals: Signals, *, guarded: bool = False
    ) -> tuple[SignalState, tuple[Finding, ...]]:
        """Take in the signals of one step."""
        first = signals.step if state.first < 0 else state.first
        dead = _streaks(state.dead, {one.module: one.dead >= self.dead for one in signals.layers})
        stuck = _streaks(state.stuck, {one.module: one.stuck >= self.stuck for one in signals.layers})
        number = signals.flat
        flat = 0 if number is None else state.flat + 1 if number == state.number or not state.flat else 1
        found = [
            *self._units("dead_units", dead, signals, guarded=guarded, young=True),
            *self._units(
                "saturated_units", stuck, signals, guarded=guarded, young=signals.step - first <= self.young
            ),
            *(one for growth in signals.time if (one := through_time(growth, signals.step, guarded=guarded))),
            *(_sizes(signals, guarded=guarded) if state.first < 0 else ()),
            *self._flat(flat, number, signals, guarded=guarded),
        ]
        news = [one for one in found if SEVERITIES.index(one.severity) > state.told.get(_key(one), -1)]
        told = {**state.told, **{_key(one): SEVERITIES.index(one.severity) for one in news}}
        return SignalState(
            MappingProxyType(dead),
            MappingProxyType(stuck),
            first,
            MappingProxyType(told),
            flat,
            number or 0.0,
        ), tuple(news)

    def _flat(
        self, looks: int, number: float | None, signals: Signals, *, guarded: bool
    ) -> Sequence[Finding]:
        if looks < self.looks or number is None:
            return ()
        where = [one.module for one in signals.fed if one.module]
        return [constant_input(signals.step, number, None, where, looks=looks, guarded=guarded)]

    def _units(
        self, kind: str, streaks: Mapping[str, int], signals: Signals, *, guarded: bool, young: bool
    ) -> Sequence[Finding]:
        shares = {one.module: one.dead if kind == "dead_units" else one.stuck for one in signals.layers}
        names = [name for name in shares if streaks.get(name, 0) >= self.looks]
        if not names:
            return ()
        worst = max(names, key=lambda name: shares[name])
        story = (
            f"{shares[worst]:.0%} of the units that feed {worst} are 0 for every sample, in {streaks[worst]} looks"
            if kind == "dead_units"
            else f"{shares[worst]:.0%} of the values that feed {worst} lie at the ends of their activation, in "
            f"{streaks[worst]} looks"
        )
        others = f"; also {listed([name for name in names if name != worst])}" if len(names) > 1 else ""
        return [
            make(
                kind,
                "warning" if young else "info",
                signals.step,
                f"{story}{others}.",
                where=[worst, *(name for name in names if name != worst)],
                evidence={"share": shares[worst], "layers": len(names), "looks": streaks[worst]},
                guarded=guarded,
            )
        ]


def _sizes(signals: Signals, *, guarded: bool) -> Sequence[Finding]:
    raw = unnormalised_input(signals.step, signals.fed, guarded=guarded)
    loud = (
        None
        if signals.jumped
        else loud_start(signals.step, signals.fed, signals.made, signals.off, guarded=guarded)
    )
    return [one for one in (raw, loud) if one is not None]


def _streaks(before: Mapping[str, int], now: Mapping[str, bool]) -> dict[str, int]:
    """Looks in a row; a layer that wasn't called keeps its count."""
    return {**before, **{name: before.get(name, 0) + 1 if bad else 0 for name, bad in now.items()}}


def _key(finding: Finding) -> tuple[str, str]:
    return finding.kind, finding.where[0] if "time" in finding.kind else ""
