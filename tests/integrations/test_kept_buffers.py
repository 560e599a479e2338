from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from steadygrad.integrations.kept_buffers import KeptBuffers


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2), nn.BatchNorm1d(2))


@given(
    batches=st.lists(
        st.sampled_from([0.0, 1.0, -5.0, math.nan, math.inf, -math.inf]),
        min_size=1,
        max_size=8,
    )
)
def test_statistics_are_those_of_the_finite_batches_alone(batches):
    model = network()
    twin = copy.deepcopy(model)
    kept = KeptBuffers(model)
    generator = torch.Generator().manual_seed(0)
    for extra in batches:
        batch = torch.randn(5, 3, generator=generator)
        batch[0, 0] += extra
        model(batch)
        kept.settle()
        if math.isfinite(extra):
            twin(batch)
    floating = [name for name, buffer in model.named_buffers() if buffer.is_floating_point()]
    own, other = dict(model.named_buffers()), dict(twin.named_buffers())
    assert floating
    for name in floating:
        assert torch.equal(own[name], other[name]), name


def test_buffers_stay_the_same_tensors():
    model = network()
    before = [buffer.data_ptr() for buffer in model.buffers()]
    kept = KeptBuffers(model)
    model(torch.full((2, 3), math.nan))
    kept.settle()
    assert [buffer.data_ptr() for buffer in model.buffers()] == before


def test_masks_of_minus_infinity_are_left_alone():
    model = network()
    model.register_buffer("mask", torch.full((2, 2), -math.inf))
    kept = KeptBuffers(model)
    model(torch.full((2, 3), math.nan))
    kept.settle()
    assert torch.isinf(model.mask).all()
    assert torch.isfinite(model[1].running_mean).all()


def test_mixed_dtypes_and_no_buffers_at_all():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3).double())
    kept = KeptBuffers(model)
    model[1].running_var[0] = math.nan
    kept.settle()
    assert model[1].running_var.dtype == torch.float64
    assert torch.isfinite(model[1].running_var).all()
    KeptBuffers(nn.Linear(1, 1)).settle()


@pytest.mark.parametrize("device", ["meta"])
def test_nothing_is_read_from_an_accelerator(device):
    model = network()
    kept = KeptBuffers(model)
    for group in kept._groups:
        group._buffers = [buffer.to(device) for buffer in group._buffers]
    kept._kept = [one.to(device) for one in kept._kept]
    kept.settle()  # a read from a meta tensor raises


def test_buffers_that_have_moved_or_lie_across_are_kept_as_they_are_now():
    model = network()
    model.register_buffer("across", torch.arange(6.0).view(2, 3).t())
    kept = KeptBuffers(model)
    mean = model[1].running_mean
    mean.data = torch.full((4,), 7.0)
    model.across.add_(1.0)
    kept.settle()
    mean.data = torch.full((4,), math.nan)
    model.across[0, 0] = math.inf
    kept.settle()
    assert mean.tolist() == [7.0] * 4
    assert torch.equal(model.across, torch.arange(6.0).view(2, 3).t() + 1.0)
