"""Who takes part: nothing, constants, the published rules, and steadygrad's policies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn
from torch.optim import Optimizer

import steadygrad as sg
from benchmarks.survival import published
from steadygrad.policies import Policy


@dataclass
class Seat:
    """One contender in one training.

    Attributes:
        before_step: called between backward and step.
        guard: where it is one of ours.
    """

    before_step: Callable[[], None]
    guard: sg.Monitor | None = None

    @property
    def touched(self) -> float | None:
        """Share of the steps that weren't left as they were; None where nobody counts."""
        if self.guard is None:
            return None
        counts = self.guard.counts
        # A step may be clipped and its rate lowered.
        return min(1.0, (counts.clipped + counts.skipped + counts.lowered) / max(counts.steps, 1))


Contender = Callable[[nn.Module, Optimizer], Seat]


def _plain(model: nn.Module, optimizer: Optimizer) -> Seat:
    del model, optimizer
    return Seat(lambda: None)


def _rule(make: Callable[[], published.Rule]) -> Contender:
    def sit(model: nn.Module, optimizer: Optimizer) -> Seat:
        del optimizer
        rule, params = make(), [param for param in model.parameters() if param.requires_grad]
        return Seat(lambda: rule(params))

    return sit


def _guarded(policy: Callable[[], Policy], *, recover: bool = False) -> Contender:
    def sit(model: nn.Module, optimizer: Optimizer) -> Seat:
        guard = sg.guard(model, optimizer, policy=policy(), max_consecutive_skips=None, recover=recover)
        return Seat(lambda: None, guard)

    return sit


def constant(max_norm: float) -> Contender:
    """A constant clip with non-finite steps skipped, the strongest form of it."""
    return _guarded(partial(sg.policies.clip_norm, max_norm))


CONTENDERS: dict[str, Contender] = {
    "plain": _plain,
    # A cap that nothing reaches leaves only the skip.
    "skip": constant(1e30),
    "clip_1": constant(1.0),
    "autoclip_published": _rule(published.autoclip),
    "zclip_published": _rule(published.zclip),
    "agc_published": _rule(published.agc),
    "adagc_published": _rule(published.adagc),
    "autoclip": _guarded(sg.policies.autoclip),
    "zclip": _guarded(sg.policies.zclip),
    "agc": _guarded(sg.policies.agc),
    "adagc": _guarded(sg.policies.adagc),
    "steady": _guarded(sg.policies.steady),
    "auto": _guarded(sg.policies.auto),
    "auto_recover": _guarded(sg.policies.auto, recover=True),
    "steady_recover": _guarded(sg.policies.steady, recover=True),
}
