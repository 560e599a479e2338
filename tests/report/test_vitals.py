from __future__ import annotations

import math

import numpy as np
import pytest

from steadygrad.records import Finding, Incident
from steadygrad.report.vitals import STILL_WRITING_S, state, take_vitals
from steadygrad.runfile import open_run


def test_the_newest_step_and_what_was_done(record):
    changes = {
        3: {"clip_coef": 0.5, "cap": 2.0, "loss": 0.25},
        4: {"skipped": True, "loss": math.nan},
        5: {"skipped": True, "overflow": True},
        7: {"cap": 3.0, "lr": 0.3, "clip_coef": 0.75},
    }
    norms = np.ones((8, 2))
    norms[4] = np.nan
    found = [Finding("loss_spike", "info", 1, (), "up"), Finding("loss_spike", "info", 2, (), "up")]
    told = [Incident(5, "rollback", "ruined"), Incident(5, "skip", "NaN"), Incident(6, "rollback", "ruined")]
    vitals = take_vitals(open_run(record(norms, changes, found, told)))
    assert (vitals.facts.clipped, vitals.facts.skipped, vitals.facts.overflowed) == (2, 1, 1)
    assert (vitals.facts.nonfinite, vitals.rolled_back) == (1, 2)
    assert vitals.findings == {("loss_spike", "info"): 2}
    assert math.isnan(vitals.loss)
    (newest,) = vitals.newest
    assert (newest.step, newest.optimizer) == (7, 0)
    assert newest.total_norm == pytest.approx(math.sqrt(2), rel=1e-3)
    assert (newest.cap, newest.clip_coef) == pytest.approx((3.0, 0.75), rel=1e-3)
    assert newest.steps_per_s == pytest.approx(100, rel=0.1)
    assert vitals.last_step_s == pytest.approx(1.7e9 + 0.07)


def test_each_optimizer_has_its_newest_step(record):
    changes = {step: {"optimizer": step % 2, "step": step // 2} for step in range(9)}
    vitals = take_vitals(open_run(record(np.ones((9, 2)), changes, optimizers=("SGD", "Adam"))))
    assert [(one.optimizer, one.step) for one in vitals.newest] == [(0, 4), (1, 3)]


def test_a_run_without_steps(record):
    vitals = take_vitals(open_run(record(np.zeros((0, 2)))))
    assert (vitals.newest, vitals.last_step_s, vitals.rolled_back) == ((), 1.7e9, 0)
    assert math.isnan(vitals.loss)


@pytest.mark.parametrize(
    ("finished", "silent_s", "expected"),
    [(True, 1e9, "finished"), (False, 1.0, "recording"), (False, STILL_WRITING_S, "cut off")],
)
def test_whether_it_is_still_recorded(finished, silent_s, expected):
    kind = state(finished=finished, started=50.0, last_written=100.0, now_s=100.0 + silent_s)
    assert kind == expected
