"""From a finished training to a row of the table and a sentence: measured, never assumed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
import torch

from steadygrad.demo.training import Training

Fate = Literal["learned", "never learned", "diverged", "stopped"]

ORIGIN_KINDS = ("exploding_gradient", "nonfinite_gradient")
"""Findings that say where an explosion began."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one training.

    Attributes:
        training: the training.
        held_out_loss: at its end; NaN or Inf for a ruined network.
        accuracy: share of held-out examples that are right, where there is right and wrong.
        fate: ``learned`` where the end is better than the best constant prediction, ``diverged``
            where a weight became non-finite, ``stopped`` where the guard ended it.
        first_bad_step: the step that ruined the weights; for the guard, the first it acted in.
        where: the parameter at which it began, as steadygrad found; empty where it names none.
        usual_norm: median of the finite gradient norms, before any clipping; NaN without one.
        moved: distance of the weights from where they began, as a share of their norm there.
    """

    training: Training
    held_out_loss: float
    accuracy: float | None
    fate: Fate
    first_bad_step: int | None
    where: str
    usual_norm: float
    moved: float


def judge(training: Training) -> Outcome:
    """Measure the end of a training on held-out data and say what became of it."""
    with torch.no_grad():
        held_out_loss = training.workload.held_out_loss(training.model)
        accuracy = training.workload.accuracy(training.model)
    act = training.first_act
    finite = [norm for norm in training.norms if math.isfinite(norm)]
    return Outcome(
        training,
        held_out_loss,
        accuracy,
        _fate(training, held_out_loss),
        first_bad_step=training.ruined_at if act is None else act.step,
        where=_where(training),
        usual_norm=median(finite) if finite else math.nan,
        moved=_moved(training),
    )


def _fate(training: Training, held_out_loss: float) -> Fate:
    if training.ruined_at is not None or not math.isfinite(held_out_loss):
        return "diverged"
    if training.stopped:
        return "stopped"
    return "learned" if held_out_loss < training.workload.guess else "never learned"


def _where(training: Training) -> str:
    """The parameter a finding names first; else the one with the largest gradient when the guard first acted.

    A finding that blames every parameter names none of them.
    """
    for finding in training.findings:
        everywhere = finding.evidence.get("share", 0.0) >= 1.0
        if finding.kind in ORIGIN_KINDS and finding.where and not everywhere:
            return finding.where[0]
    act = training.first_act
    return training.names[int(np.argmax(act.norms))] if act is not None else ""


def _moved(training: Training) -> float:
    changes = [
        after.detach() - before
        for after, before in zip(training.model.parameters(), training.initial, strict=True)
    ]
    return float(_norm(changes) / _norm(training.initial))


def _norm(tensors: list[torch.Tensor]) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack([each.norm() for each in tensors]))
    return norm
