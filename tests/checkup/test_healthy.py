"""Nothing to say about healthy trainings of many kinds."""

from __future__ import annotations

import pytest
import torch
from benchmarks.remedies.healthy import HEALTHY


@pytest.mark.parametrize("name", HEALTHY)
def test_no_alarm(name):
    training = HEALTHY[name]()
    found = training.check()
    assert [finding for finding in found.findings if finding.severity != "info"] == []
    assert found.ok
    assert found.notes == ()
    assert torch.isfinite(torch.tensor(found.loss))


def test_the_zoo_is_large_enough_to_mean_something():
    assert len(HEALTHY) >= 60
