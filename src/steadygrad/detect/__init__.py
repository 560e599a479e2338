"""Pure detectors: a stream of Readings goes in, Findings come out.

Nothing here imports torch or touches a tensor: the same code judges a live run and a recorded one.
"""

from __future__ import annotations

from steadygrad.detect.clipping import ClipIsStepLimiter
from steadygrad.detect.detector import Context, Detector
from steadygrad.detect.disconnected import DisconnectedLoss, DisconnectedParameters
from steadygrad.detect.exploding import ExplodingGradient
from steadygrad.detect.nonfinite import NonfiniteGradient, OverflowStreak
from steadygrad.detect.panel import COOL_DOWN, DETECTORS, Panel, over
from steadygrad.detect.vanishing import VanishingGradient
from steadygrad.detect.wiring import missing_zero_grad, stale_optimizer

__all__ = [
    "COOL_DOWN",
    "DETECTORS",
    "ClipIsStepLimiter",
    "Context",
    "Detector",
    "DisconnectedLoss",
    "DisconnectedParameters",
    "ExplodingGradient",
    "NonfiniteGradient",
    "OverflowStreak",
    "Panel",
    "VanishingGradient",
    "missing_zero_grad",
    "over",
    "stale_optimizer",
]
