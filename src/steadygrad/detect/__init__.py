"""Pure detectors: a stream of Readings goes in, Findings come out.

Nothing here imports torch or touches a tensor: the same code judges a live run and a recorded one.
"""

from __future__ import annotations

from steadygrad.detect.clipping import ClipIsStepLimiter
from steadygrad.detect.detector import Context, Detector
from steadygrad.detect.disconnected import DisconnectedLoss, DisconnectedParameters
from steadygrad.detect.divergence import Divergence
from steadygrad.detect.exploding import ExplodingGradient
from steadygrad.detect.momentum import MomentumCorrupt
from steadygrad.detect.nonfinite import NonfiniteGradient, OverflowStreak
from steadygrad.detect.optimizer_state import OptimizerStateCorrupt, ruined_state
from steadygrad.detect.panel import COOL_DOWN, COURSE, DETECTORS, PROBED, Panel, over
from steadygrad.detect.rate import LearningRateTooHigh
from steadygrad.detect.spike import LossSpike
from steadygrad.detect.updates import OversizedUpdate, ScheduleRunOut, StalledUpdate
from steadygrad.detect.values import NonfiniteLoss, NonfiniteParameter, nonfinite_buffers, nonfinite_parameter
from steadygrad.detect.vanishing import VanishingGradient
from steadygrad.detect.wiring import missing_zero_grad, stale_optimizer

__all__ = [
    "COOL_DOWN",
    "COURSE",
    "DETECTORS",
    "PROBED",
    "ClipIsStepLimiter",
    "Context",
    "Detector",
    "DisconnectedLoss",
    "DisconnectedParameters",
    "Divergence",
    "ExplodingGradient",
    "LearningRateTooHigh",
    "LossSpike",
    "MomentumCorrupt",
    "NonfiniteGradient",
    "NonfiniteLoss",
    "NonfiniteParameter",
    "OptimizerStateCorrupt",
    "OverflowStreak",
    "OversizedUpdate",
    "Panel",
    "ScheduleRunOut",
    "StalledUpdate",
    "VanishingGradient",
    "missing_zero_grad",
    "nonfinite_buffers",
    "nonfinite_parameter",
    "over",
    "ruined_state",
    "stale_optimizer",
]
