from __future__ import annotations

import numpy as np

from steadygrad.records import Incident
from steadygrad.report.around import REACH, around
from steadygrad.runfile import open_run


def test_the_nearest_finite_numbers_on_both_sides(record):
    norms = np.full((40, 1), 2.0)
    norms[10:13] = np.nan
    norms[13:] = 8.0
    changes = {step: {"loss": float(step)} for step in range(40)}
    with open_run(record(norms, changes)) as run:
        first, last = around(run, [Incident(11, "skip", ""), Incident(12, "rollback", "")])
    assert (first.norm, first.loss) == ("2 → 8", "10 → 12")
    assert (last.norm, last.loss) == ("2 → 8", "11 → 13")


def test_at_the_ends_of_a_run_and_without_a_finite_number(record):
    with open_run(record([[1.0]] * 5)) as run:
        assert around(run, [Incident(0, "engage", "")])[0].norm == "– → 1"
        assert around(run, [Incident(9, "stop", "")])[0].norm == "1 → –"
        assert around(run, [Incident(2, "skip", "", (), 3)])[0].norm == ""
    with open_run(record([[np.inf]] * (2 * REACH), name="second")) as run:
        made = around(run, [Incident(REACH, "skip", "")])[0]
    assert (made.norm, made.loss) == ("", "")
