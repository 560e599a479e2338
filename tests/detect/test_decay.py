from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from steadygrad.detect import over


def shrinking(stream, lengths, lr=0.1):
    readings = stream(np.ones((len(lengths), 2)), lr=lr)
    return [
        replace(reading, param_norms=np.array([length, 0.0]))
        for reading, length in zip(readings, lengths, strict=True)
    ]


def test_weights_that_decay_takes_away_are_told_once(stream, context):
    (finding,) = over(shrinking(stream, [8.0, 4.0, 0.7, 0.5, 0.01]), context(2, weight_decay=5.0))
    assert (finding.kind, finding.severity, finding.step) == ("oversized_update", "warning", 0)
    assert "50%" in finding.summary
    assert "weight_decay" in finding.remedies[0].code


@pytest.mark.parametrize(
    ("lengths", "decay"),
    [
        ([8.0, 4.0, 0.9], 5.0),
        ([8.0, 4.0, 0.1], 0.05),
        ([0.0, 4.0, 3.0], 5.0),
        ([np.nan, 4.0, 3.0], 5.0),
        ([8.0, np.nan, np.inf], 5.0),
    ],
)
def test_other_weights_are_left_alone(stream, context, lengths, decay):
    assert not [
        one
        for one in over(shrinking(stream, lengths), context(2, weight_decay=decay))
        if "decay" in one.summary
    ]
