"""Writes down what shows what went wrong: a bundle at every streak of skips, every rollback and every stop."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from steadygrad.bundles import FORMAT, bundles_folder
from steadygrad.origin import Origin
from steadygrad.records import Finding, Incident, Reading
from steadygrad.recover.bundle_plan import Bundles
from steadygrad.recover.bundle_writer import BundleWriter
from steadygrad.recover.evidence import (
    Evidence,
    around,
    bytes_of_calls,
    calls_as_values,
    policies_of,
    readings_as_values,
    state_of,
)
from steadygrad.recover.plain_values import lacks, plain
from steadygrad.recover.plan import Rollback
from steadygrad.recover.state import Trained, TrainingState
from steadygrad.runfile.facts import finding_text
from steadygrad.runfile.finite import loads
from steadygrad.stepping import Brake, Lane
from steadygrad.tracing import Capture

FINDINGS = 50
GIVEN = 4
"""Steps whose batch is held on to: an accelerator tells of a step when the next one has been made."""


class Stepped(Trained, Protocol):
    """One optimizer as a witness needs it."""

    lane: Lane
    brake: Brake

    def catch_up(self) -> None:
        """Take in what was put off."""


class Source(Protocol):
    """Where a witness learns what it hasn't seen itself; `steadygrad.logbook.Logbook` is one."""

    findings: list[Finding]
    recent: deque[Reading]

    def say(self, key: str, text: str) -> None:
        """One line on stderr."""

    def origin(self, optimizer: int, step: int) -> Origin | None:
        """Where a step's fault began."""


class Witness:
    """Copies what shows what went wrong, and has it written.

    Args:
        model: held weakly.
        tracks: its optimizers.
        plan: how recovery was asked for.
        limits: what is kept, and how much.
        capture: holds on to the newest calls of the model.
        run: the run file.
        about: what is known of the run: for ``incident.json``.
        source: findings, Readings, origins.
    """

    def __init__(
        self,
        model: nn.Module,
        tracks: Sequence[Stepped],
        plan: Rollback,
        limits: Bundles,
        capture: Capture,
        run: Path,
        about: Mapping[str, Any],
        source: Source,
    ) -> None:
        self.wary = False
        self.writer = BundleWriter(
            bundles_folder(run), limits.max_bytes, lambda text: source.say("bundles", text)
        )
        self._model = weakref.ref(model)
        self._tracks = tracks
        self._state = TrainingState(model, tracks, plan)
        self._scaler = plan.scaler
        self._limits = limits
        self._capture = capture
        self._about = {**about, "run": str(run)}
        self._source = source
        self._given: deque[tuple[int, int, Any]] = deque(maxlen=GIVEN)
        self._foreseen: tuple[int, int, dict[str, Any], list[dict[str, Any]]] | None = None
        self._held: Evidence | None = None
        self._last_skip: dict[int, int] = {}
        self._went_back = (-1, -1)
        self._written = self._skips = 0

    def begins(self, optimizer: int, step: int) -> None:
        """A step is about to be made: note what belongs to it; copy the state where a rollback is near."""
        self._capture.mark(optimizer, step)
        if self._limits.batch is not None:
            self._given.append((optimizer, step, self._limits.batch()))
        self._foreseen = None
        if self.wary:
            self.wary = False
            if self._has_room() and self._state_fits():
                self._foreseen = optimizer, step, state_of(self._state), policies_of(self._tracks)

    def skipped(self, reading: Reading) -> None:
        """A step was left out: the first of a streak is written down."""
        if reading.overflow:
            return
        index = reading.optimizer
        goes_on = self._last_skip.get(index, -2) == reading.step - 1
        self._last_skip[index] = reading.step
        # After a rollback in the same step the state that met the batch is gone; it is in that bundle.
        went_back = self._went_back == (index, reading.step)
        if goes_on or went_back or not self._has_room() or self._skips >= max(1, self._limits.most // 2):
            return
        evidence = self._gather(reading.step, index, skipped=True)
        told = Incident(reading.step, "skip", "the gradient was non-finite", optimizer=index)
        self._skips += self._put(evidence, told)

    def ruined(self, reading: Reading, *, final: bool) -> None:
        """The state is about to be put back: copy it."""
        if final or self._has_room():
            self._held = self._gather(reading.step, reading.optimizer, skipped=reading.skipped)

    def incident(self, incident: Incident) -> None:
        """Something was done; a rollback or a stop is written down."""
        held, self._held = self._held, None
        if incident.action not in {"rollback", "stop"}:
            return
        self._went_back = (incident.optimizer, incident.step)
        if incident.action == "rollback" and not self._has_room():
            return
        fits = held is not None and held.facts["step"] == incident.step
        evidence = held if held and fits else self._gather(incident.step, incident.optimizer, skipped=True)
        self._put(evidence, incident)
        if incident.action == "stop":
            self.writer.wait()

    def close(self) -> None:
        """Wait for what is being written."""
        self.writer.wait()

    def _has_room(self) -> bool:
        return self._written < self._limits.most

    def _state_fits(self) -> bool:
        wanted = self._limits.state
        return wanted is not False and self._state.live().nbytes() <= self._limits.max_bytes

    def _put(self, evidence: Evidence, incident: Incident) -> bool:
        told = {"action": incident.action, "reason": incident.reason, "where": list(incident.where)}
        evidence.facts = {**evidence.facts, **told}
        is_put = self.writer.put(evidence)
        self._written += is_put
        return is_put

    def _gather(self, step: int, optimizer: int, *, skipped: bool) -> Evidence:
        for track in self._tracks:
            track.catch_up()
        values, why_no_batch = self._step_values(step, optimizer)
        state, ahead, policies, why_no_state = self._state_values(step, optimizer, skipped=skipped)
        values["policies"] = policies
        reading = next(
            (r for r in reversed(self._source.recent) if (r.optimizer, r.step) == (optimizer, step)), None
        )
        origin = self._source.origin(optimizer, step)
        brake = self._tracks[optimizer].brake
        facts = {
            "format": FORMAT,
            "step": step,
            "optimizer": optimizer,
            "loss": None if reading is None else reading.loss,
            "total_norm": None if reading is None else reading.total_norm,
            "steps_ahead": ahead,
            "batch_left_out": why_no_batch,
            "state_left_out": why_no_state,
            "origin": None if origin is None else {**asdict(origin), "text": str(origin)},
            "findings": [
                {"text": str(one), **loads(finding_text(one))} for one in self._source.findings[-FINDINGS:]
            ],
            "brake": {"max_norm": brake.max_norm, "rate": brake.rate},
            **self._about,
        }
        evidence = Evidence(facts, values, state)
        if state is not None and (needed := evidence.nbytes()) > self._limits.max_bytes:
            evidence.state = None
            facts["state_left_out"] = f"with the batch it takes {needed / 1e6:.0f} MB"
        return evidence

    def _step_values(self, step: int, optimizer: int) -> tuple[dict[str, Any], str]:
        model, why = self._model(), ""
        calls = self._capture.calls_of(optimizer, step)
        needed = bytes_of_calls(calls)
        if needed > self._limits.max_bytes:
            calls, why = [], f"the batch takes {needed / 1e6:.0f} MB"
        values = calls_as_values(calls, model)
        if not why and not calls:
            why = "no call of the model was held on to"
        elif not why and (missing := lacks(values)):
            why = f"the model was given what can't be kept ({', '.join(sorted(set(missing)))})"
        given = [one for index, at, one in self._given if (index, at) == (optimizer, step)]
        scaler = self._scaler
        found = {
            "calls": values,
            "given": plain(given[-1]) if given else None,
            "loss_scale": None if scaler is None else float(scaler.get_scale()),
            "readings": readings_as_values(list(self._source.recent)),
            **around(model),
        }
        return found, why

    def _state_values(
        self, step: int, optimizer: int, *, skipped: bool
    ) -> tuple[dict[str, Any] | None, int, list[dict[str, Any]], str]:
        """The state nearest to the one that made the step, and by how many steps it is ahead of it."""
        foreseen = self._foreseen
        if foreseen is not None and foreseen[:2] == (optimizer, step):
            return foreseen[2], 0, foreseen[3], ""
        ahead = self._tracks[optimizer].lane.step - step - (1 if skipped else 0)
        policies = policies_of(self._tracks)
        if self._limits.state is False:
            return None, ahead, policies, "not asked for"
        needed = self._state.live().nbytes()
        if needed > self._limits.max_bytes:
            return None, ahead, policies, f"it takes {needed / 1e6:.0f} MB"
        return state_of(self._state), max(0, ahead), policies, ""
