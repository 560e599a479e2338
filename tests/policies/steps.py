"""A policy driven over a stream of norms as the guard drives it, and what it said to each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tests.policies.streams import measurement

from steadygrad.measure import GroupHyper, Measurement
from steadygrad.measure.hyper import Kind
from steadygrad.policies import Policy
from steadygrad.records import Incident, Reading, TensorInfo

SQUARE = (TensorInfo("body.weight", (4, 4)), TensorInfo("head.weight", (4, 4)))


@dataclass
class Said:
    """Answer to one step; a skipped step has factor 1."""

    factor: float = 1.0
    lr_factor: float = 1.0
    incidents: tuple[Incident, ...] = ()

    @property
    def untouched(self) -> bool:
        return self.factor == 1.0 and self.lr_factor == 1.0


class Track:
    """One run under a policy, all norms in double precision.

    `parts` are the tensors' norms as shares of the total, by default all in the first.
    """

    def __init__(
        self,
        policy: Policy,
        kind: Kind | None = "sgd",
        momentum: float = 0.0,
        tensors: Sequence[TensorInfo] = SQUARE,
        param_norms: Sequence[float] = (3.0, 4.0),
    ) -> None:
        self.policy, self.kind, self.momentum = policy, kind, momentum
        self.tensors, self.step = list(tensors), 0
        policy.prepare(self.tensors, np.array(param_norms, np.float32))

    def measured(self, parts: Sequence[float], lrs: Sequence[float]) -> Measurement:
        grads = [torch.tensor([part], dtype=torch.float64) for part in parts]
        groups = [] if self.kind is None else [GroupHyper(lr, self.momentum, self.kind) for lr in lrs]
        group_of = [min(i, len(lrs) - 1) for i in range(len(parts))]
        return replace(measurement(grads), tensors=self.tensors, groups=groups, group_of=group_of)

    def take(self, norm: float, lrs: float | Sequence[float] = 0.1, parts: Sequence[float] = ()) -> Said:
        """One step; `parts` replaces `norm` spread over the tensors."""
        lrs = [lrs] if isinstance(lrs, float) else list(lrs)
        parts = list(parts) or [norm] + [0.0] * (len(self.tensors) - 1)
        total, step = math.hypot(*parts), self.step
        self.step += 1
        if not math.isfinite(total):
            reading = Reading(step, np.array(parts), total, skipped=True)
            return Said(incidents=self.policy.skipped(reading))
        measured = self.measured(parts, lrs)
        scale = self.policy.scale(measured)
        said = Said(1.0 if scale is None else float(scale), self.policy.lr_factor(measured))
        reading = Reading(
            step, np.array(parts), total, clip_coef=said.factor, cap=self.policy.cap, lr_factor=said.lr_factor
        )
        said.incidents = self.policy.learn(reading)
        return said

    def run(self, norms: Sequence[float], lr: float | Sequence[float] = 0.1) -> list[Said]:
        """Many steps; `lr` one number, or one for each step."""
        lrs = [lr] * len(norms) if isinstance(lr, float) else lr
        return [self.take(norm, one) for norm, one in zip(norms, lrs, strict=True)]


def actions(run: Sequence[Said]) -> list[tuple[int, str]]:
    """Every incident as (index of the step, action)."""
    return [(i, incident.action) for i, said in enumerate(run) for incident in said.incidents]
