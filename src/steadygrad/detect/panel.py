"""All detectors over one stream of Readings, live or recorded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from steadygrad.detect.clipping import ClipIsStepLimiter
from steadygrad.detect.decay import DecayTooStrong
from steadygrad.detect.detector import Context, Detector
from steadygrad.detect.disconnected import DisconnectedLoss, DisconnectedParameters
from steadygrad.detect.divergence import Divergence
from steadygrad.detect.exploding import ExplodingGradient
from steadygrad.detect.momentum import MomentumCorrupt
from steadygrad.detect.nonfinite import NonfiniteGradient, OverflowStreak
from steadygrad.detect.optimizer_state import OptimizerStateCorrupt
from steadygrad.detect.rate import LearningRateTooHigh
from steadygrad.detect.spike import LossSpike
from steadygrad.detect.updates import OversizedUpdate, ScheduleRunOut, StalledUpdate
from steadygrad.detect.values import NonfiniteLoss, NonfiniteParameter
from steadygrad.detect.vanishing import VanishingGradient
from steadygrad.records import SEVERITIES, Finding, Reading, TensorInfo

DETECTORS: tuple[Detector[Any], ...] = (
    DisconnectedLoss(),
    DisconnectedParameters(),
    NonfiniteGradient(),
    OverflowStreak(),
    ExplodingGradient(),
    VanishingGradient(),
    ClipIsStepLimiter(),
    ScheduleRunOut(),
    MomentumCorrupt(),
)
"""The detectors a Panel runs unless told otherwise."""

PROBED: tuple[Detector[Any], ...] = (
    NonfiniteParameter(),
    OptimizerStateCorrupt(),
    OversizedUpdate(),
    DecayTooStrong(),
    StalledUpdate(),
)
"""Those a Panel adds on the few steps that measure the weights."""

COURSE: tuple[Detector[Any], ...] = (NonfiniteLoss(), LossSpike(), Divergence(), LearningRateTooHigh())
"""Those that judge a step by its loss, which may be logged after the step."""

COOL_DOWN = 200
"""Readings before a kind may be reported again; doubled at each report, so that a lasting fault gives
about ten findings in 100,000 steps and not one in every window."""


class Panel:
    """Runs detectors over the Readings of one optimizer and keeps them from repeating themselves.

    A finding passes when its kind hasn't been reported for a while, or is more severe than before.

    Args:
        context: what is known of the run.
        detectors: which detectors to run.
        probed: which to add on readings that bring norms of the parameters.

    Example:
        >>> import numpy as np
        >>> from steadygrad.records import Reading, TensorInfo
        >>> panel = Panel(Context((TensorInfo("weight"), TensorInfo("bias"))))
        >>> reading = Reading(0, np.zeros(2), 0.0, absent=np.array([True, True]))
        >>> [finding.kind for finding in panel.observe(reading)]
        ['disconnected_loss']
    """

    def __init__(
        self,
        context: Context,
        detectors: Sequence[Detector[Any]] = DETECTORS,
        probed: Sequence[Detector[Any]] = PROBED,
    ) -> None:
        self.context = context
        self._observers = tuple(detector.observe for detector in detectors)
        self._states: list[Any] = [detector.start() for detector in detectors]
        self._probed = tuple(detector.observe for detector in probed)
        self._probed_states: list[Any] = [detector.start() for detector in probed]
        self._seen = 0
        self._reported: dict[str, tuple[int, int, int]] = {}  # kind: (silent until, pause, worst rank)

    def observe(self, reading: Reading) -> tuple[Finding, ...]:
        """Take in the next reading.

        Args:
            reading: one optimizer step.

        Returns:
            What there is to say about it; nearly always nothing.
        """
        context, states = self.context, self._states
        found: list[Finding] | None = None
        for i, observer in enumerate(self._observers):
            states[i], finding = observer(states[i], reading, context)
            if finding is not None:
                found = [*(found or ()), finding]
        if reading.param_norms is not None:
            found = self._probe(reading, found)
        self._seen += 1
        return tuple(filter(self._news, found)) if found else ()

    def _probe(self, reading: Reading, found: list[Finding] | None) -> list[Finding] | None:
        for i, observer in enumerate(self._probed):
            self._probed_states[i], finding = observer(self._probed_states[i], reading, self.context)
            if finding is not None:
                found = [*(found or ()), finding]
        return found

    def extend(self, tensors: Iterable[TensorInfo]) -> None:
        """Announce parameters that joined the optimizer; later readings are as much longer.

        Args:
            tensors: the new parameters, in the order in which they follow the others.
        """
        self.context = replace(self.context, tensors=(*self.context.tensors, *tensors))

    def _news(self, finding: Finding) -> bool:
        kind, rank = finding.kind, SEVERITIES.index(finding.severity)
        again, pause, worst = self._reported.get(kind, (0, COOL_DOWN // 2, -1))
        if self._seen < again and rank <= worst:
            return False
        pause *= 2
        self._reported[kind] = (self._seen + pause, pause, max(rank, worst))
        return True


def over(readings: Iterable[Reading], context: Context) -> list[Finding]:
    """Judge a recorded run as it would have been judged live.

    Args:
        readings: the run; readings of other optimizers than ``context.optimizer`` are passed over.
        context: what is known of the run.

    Returns:
        The findings in the order in which they came up.
    """
    panel = Panel(context, (*DETECTORS, *COURSE))
    return [
        finding
        for reading in readings
        if reading.optimizer == context.optimizer
        for finding in panel.observe(reading)
    ]
