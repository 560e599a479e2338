"""Measurement in, factor out: the policies that decide how far a step may go."""

from steadygrad.policies.adagc import AdaGC, adagc
from steadygrad.policies.agc import AGC, agc
from steadygrad.policies.auto import Auto, auto
from steadygrad.policies.autoclip import AutoClip, autoclip
from steadygrad.policies.base import Policy
from steadygrad.policies.chain import Chain, chain
from steadygrad.policies.clip_norm import ClipNorm, clip_norm
from steadygrad.policies.clip_value import ClipValue, clip_value
from steadygrad.policies.history import NormWindow
from steadygrad.policies.relative_update import RelativeUpdate, relative_update
from steadygrad.policies.steady import Steady, steady
from steadygrad.policies.zclip import ZClip, zclip

__all__ = [
    "AGC",
    "AdaGC",
    "Auto",
    "AutoClip",
    "Chain",
    "ClipNorm",
    "ClipValue",
    "NormWindow",
    "Policy",
    "RelativeUpdate",
    "Steady",
    "ZClip",
    "adagc",
    "agc",
    "auto",
    "autoclip",
    "chain",
    "clip_norm",
    "clip_value",
    "relative_update",
    "steady",
    "zclip",
]
