"""What a clip says about the norm that is left."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from steadygrad.integrations.bounds import Handed, norm_bound


@pytest.mark.parametrize("max_norm", [1.0, 1, np.float32(1.0), torch.tensor(1.0)])
def test_a_clip_by_l2_norm_is_a_bound(max_norm):
    assert norm_bound(max_norm) == 1.0


@pytest.mark.parametrize(
    ("max_norm", "norm_type"),
    [(None, 2), (0.0, 2), (-1.0, 2), (math.inf, 2), (math.nan, 2), (1.0, math.inf), (1.0, 1), ("x", 2), (1.0, None)],
)  # fmt: skip
def test_another_clip_is_none(max_norm, norm_type):
    assert norm_bound(max_norm, norm_type) is None


def test_a_part_is_not_the_whole():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    handed = Handed(torch.optim.SGD(model.parameters(), lr=0.1))
    part, whole = list(model[0].parameters()), list(model.parameters())
    assert handed.is_whole(part)  # nothing has a gradient yet
    model(torch.ones(1, 2)).sum().backward()
    assert not handed.is_whole(part)
    assert handed.is_whole(whole)
    assert handed.has_some(part)


def test_parameters_that_join_are_seen():
    first, second = nn.Linear(2, 2), nn.Linear(2, 1)
    optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
    handed, given = Handed(optimizer), list(first.parameters())
    second(first(torch.ones(1, 2))).sum().backward()
    assert handed.is_whole(given)
    assert not handed.has_some(list(second.parameters()))
    assert handed.is_whole(given)
    optimizer.add_param_group({"params": list(second.parameters())})
    assert not handed.is_whole(given)
    assert handed.has_some(list(second.parameters()))
