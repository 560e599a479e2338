"""What one rank puts into the collective has one length on all ranks, whatever tensors it holds itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steadygrad.measure import Layout
from steadygrad.ranks.letter import Letter
from steadygrad.ranks.sums import Sums
from steadygrad.records import TensorInfo

DTYPES = ("float64", "float32")


def stage(rank, late):
    """One of two stages, each with a tensor of its own dtype; the other's row is empty and of the default dtype."""
    params = [torch.empty(0), torch.empty(0)]
    params[rank] = torch.zeros(3, dtype=getattr(torch, DTYPES[rank]))
    rows = [TensorInfo(f"rank {i}: weight", (3,), dtype, 0, True) for i, dtype in enumerate(DTYPES)]
    own = np.arange(2) == rank
    layout = Layout(rows, [rank], [0, 0], own.astype(np.float64), np.zeros(2, np.float32), ~own)
    return Sums(params, 2, late=late, layout=layout)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("with_weights", [False, True])
def test_stages_of_other_dtypes_add_up_vectors_of_one_length(late, with_weights):
    true = torch.tensor([3.0, 4.0], dtype=torch.float64)
    stages = [stage(rank, late) for rank in range(2)]
    vectors = [
        one.split(true, true if with_weights else None, Letter(rank, 2)) for rank, one in enumerate(stages)
    ]
    assert vectors[0].shape == vectors[1].shape
    assert vectors[0].dtype == vectors[1].dtype
    assert vectors[0].numel() * vectors[0].element_size() <= 16 * len(true)
    for one in stages:
        for norms in one.joined(vectors[0] + vectors[1], with_weights=with_weights):
            assert norms.tolist() == pytest.approx(true.tolist(), rel=1e-6)


def test_stages_of_other_dtypes_repeat_a_step_together_or_not_at_all():
    """A stage of float32 whose step is `plain` wouldn't hear that one of float64 asks for it to be added up once more."""
    assert [stage(rank, late=False).plain for rank in range(2)] == [False, False]
