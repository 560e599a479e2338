"""Loggers that follow an experiment: Weights & Biases, MLflow, Trackio.

Each writes into a run that you have begun yourself, so project, name and place are where they always were.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from steadygrad.errors import UsageError
from steadygrad.framework import require
from steadygrad.records import Finding
from steadygrad.sinks.sink import PREFIX, Sink


class WandB(Sink):
    """Weights & Biases: numbers over their own step axis, findings as alerts.

    Rows are joined to those you log yourself, so that your own ``step=`` never runs backwards. Where you
    log nothing, pass ``commit=True``.

    Args:
        run: what ``wandb.init`` returned; None takes the run that is active.
        commit: write a row at once.
        every: see `Sink`.
        worst: see `Sink`.

    Raises:
        FrameworkMissing: wandb is absent or too old.
        UsageError: no run is active.
    """

    def __init__(
        self, run: Any = None, *, commit: bool = False, every: int = 10, worst: int | None = 3
    ) -> None:
        super().__init__(every=every, worst=worst)
        require("wandb", "0.17", extra="wandb")
        self._run = run if run is not None else import_module("wandb").run
        if self._run is None:
            raise UsageError(
                "WandB(): no run is active. Call wandb.init(...) first, or pass what it returned."
            )
        self._commit = commit
        self._run.define_metric(f"{PREFIX}step")
        self._run.define_metric(f"{PREFIX}*", step_metric=f"{PREFIX}step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A row, or a part of yours."""
        self._run.log({**values, f"{PREFIX}step": step}, commit=self._commit)

    def write_finding(self, finding: Finding, text: str) -> None:
        """An alert, which reaches whoever has asked for mail or messages; none for a mere note."""
        level = {"info": "INFO", "warning": "WARN", "error": "ERROR"}[finding.severity]
        if finding.severity == "info":
            return
        self._run.alert(
            title=f"{finding.kind} at step {finding.step}", text=text, level=level, wait_duration=0
        )


class MLflow(Sink):
    """MLflow: numbers as metrics, findings as one text artefact and a tag a kind.

    Args:
        run_id: the run; None takes the one that is active.
        every: see `Sink`.
        worst: see `Sink`.

    Raises:
        FrameworkMissing: mlflow is absent or too old.
        UsageError: no run is active.
    """

    def __init__(self, run_id: str | None = None, *, every: int = 10, worst: int | None = 3) -> None:
        super().__init__(every=every, worst=worst)
        require("mlflow-skinny", "2.15", extra="mlflow")
        mlflow = import_module("mlflow")
        active = mlflow.active_run()
        if run_id is None and active is None:
            raise UsageError("MLflow(): no run is active. Call mlflow.start_run() first, or pass run_id=.")
        self._run_id = run_id if run_id is not None else active.info.run_id
        self._client = mlflow.MlflowClient()
        self._metric = mlflow.entities.Metric
        self._story = ""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One batch of metrics."""
        now_ms = int(time.time() * 1000)
        metrics = [self._metric(name, value, now_ms, step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def write_finding(self, finding: Finding, text: str) -> None:
        """The text of all findings so far, and a tag."""
        self._story += f"{text}\n\n---\n\n"
        self._client.log_text(self._run_id, self._story, "steadygrad/findings.md")
        self._client.set_tag(self._run_id, f"steadygrad.{finding.kind}", finding.summary)


class Trackio(Sink):
    """Trackio: numbers by step, findings as alerts.

    Args:
        run: what ``trackio.init`` returned; None takes the run that is active.
        every: see `Sink`.
        worst: see `Sink`.

    Raises:
        FrameworkMissing: trackio is absent or too old.
    """

    def __init__(self, run: Any = None, *, every: int = 10, worst: int | None = 3) -> None:
        super().__init__(every=every, worst=worst)
        require("trackio", "0.20", extra="trackio")
        self._trackio = import_module("trackio")
        self._run = run if run is not None else self._trackio

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of a step."""
        self._run.log(dict(values), step=step)

    def write_finding(self, finding: Finding, text: str) -> None:
        """An alert; none for a mere note."""
        level = {"warning": "WARN", "error": "ERROR"}.get(finding.severity)
        if level is not None:
            levels = self._trackio.AlertLevel
            self._run.alert(f"{finding.kind} at step {finding.step}", text, level=getattr(levels, level))
