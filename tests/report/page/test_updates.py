from __future__ import annotations

import numpy as np
import pytest

from steadygrad.report.page.data.updates import updates
from steadygrad.runfile import open_run


def test_ratios_over_all_tensors_on_the_steps_that_measured_them(record):
    weights, moves = np.array([1.0, 2.0, 0.0, 4.0]), np.array([0.01, 0.2, 1.0, np.nan])
    changes = {3: {"param_norms": weights, "update_norms": moves}, 8: {"param_norms": weights}}
    with open_run(record(np.ones((10, 4)), changes)) as run:
        made = updates(run)
    assert made.steps.tolist() == [3]
    assert (made.most[0], made.leader) == (pytest.approx(0.1, rel=0.01), ("layers.1.weight",))
    assert made.low[0] < made.middle[0] < made.high[0]


def test_without_a_measured_step_there_are_none(record):
    with open_run(record(np.ones((10, 4)))) as run:
        assert updates(run) is None
