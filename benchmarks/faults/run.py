"""One case, run as a user would run it, and what was said when."""

from __future__ import annotations

import os
import statistics
import time
import warnings
from typing import TypedDict

import torch

import steadygrad as sg
from benchmarks.faults.case import Case
from benchmarks.faults.classic import AutoTrainer, Probe, SageMaker
from benchmarks.faults.training import Training
from steadygrad.errors import UsageError
from steadygrad.records import Finding, Severity

os.environ["STEADYGRAD_QUIET"] = "1"
BEFORE = -1
"""Step of what the look before training said."""


class Said(TypedDict):
    """One finding.

    ``raised`` is the step after which it was there, `BEFORE` for the look before training; ``step`` is the one it
    names.
    """

    kind: str
    severity: Severity
    where: list[str]
    summary: str
    raised: int
    step: int
    optimizer: int


class Record(TypedDict):
    """What happened in one case, as it goes into a file.

    ``refused`` is what `steadygrad.watch` said where it found nothing to watch, an answer too; ``fault`` is where the
    benchmark itself, or steadygrad, broke.
    """

    name: str
    said: list[Said]
    losses: list[float]
    check_s: float
    step_s: float
    told_s: float
    classic: dict[str, list[tuple[int, str]]]
    fault: str
    refused: str


def run(case: Case) -> Record:
    """Look before training, then train under watch."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a variance of one number warns, and is the point
        training = case.build()
        record = Record(
            name=case.name,
            said=[],
            losses=[],
            check_s=0.0,
            step_s=0.0,
            told_s=0.0,
            classic={},
            fault="",
            refused="",
        )
        try:
            if case.checked:
                _check(training, record)
            _train(training, case, record)
        except Exception as error:  # noqa: BLE001 - a case that breaks is reported, the others go on
            record["fault"] = f"{type(error).__name__}: {error}"
    return record


def _check(training: Training, record: Record) -> None:
    inputs, targets = training.batches(0)
    began = time.perf_counter()
    with training.context():
        found = sg.check(
            training.model, inputs, lambda output: training.loss(output, targets), training.optimizers[0]
        ).findings
    record["check_s"] = time.perf_counter() - began
    record["said"] += [_said(finding, BEFORE) for finding in found]


def _train(training: Training, case: Case, record: Record) -> None:
    probe = Probe(training.model)
    rules = {"AUTOTRAINER": AutoTrainer(), "SageMaker": SageMaker()}
    record["classic"] = {name: [] for name in rules}
    try:
        watch = sg.watch(training.model, training.optimizers)
    except UsageError as error:
        record["refused"] = str(error)
        return
    handles = [optimizer.register_step_pre_hook(probe.gradients) for optimizer in training.optimizers]
    quiet, told = [], []
    seen = len(watch.findings)
    record["said"] += [_said(finding, 0) for finding in watch.findings]
    for step in range(case.steps):
        began = time.perf_counter()
        loss = training.step(step)
        watch.log(loss=loss)
        found = watch.findings[seen:]
        (told if found else quiet).append(time.perf_counter() - began)
        seen += len(found)
        record["said"] += [_said(finding, step) for finding in found]
        record["losses"].append(float(loss))
        look = probe.look(step, float(loss), training.batches(step)[1])
        for name, rule in rules.items():
            record["classic"][name] += [(step, one) for one in rule.rules(look, case.steps)]
    for handle in handles:
        handle.remove()
    watch.close()
    record["step_s"] = statistics.median(quiet or told)
    record["told_s"] = max(told, default=0.0)


def _said(finding: Finding, raised: int) -> Said:
    return Said(
        kind=finding.kind,
        severity=finding.severity,
        where=list(finding.where[:4]),
        summary=finding.summary,
        raised=raised,
        step=finding.step,
        optimizer=finding.optimizer,
    )
