"""Norms of numbers of eight bits, of which torch takes none."""

from __future__ import annotations

import math

import pytest
import torch

from steadygrad.measure import HostNorms, device_norms

NARROW = [torch.float8_e4m3fn, torch.float8_e5m2]


def on_host(tensors):
    return HostNorms(tensors)(tensors)[0].tolist()


def on_device(tensors):
    return device_norms(tensors).tolist()


@pytest.mark.parametrize("norms", [on_host, on_device])
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("others", [0, 1, 80])
def test_they_are_widened(norms, dtype, others):
    generator = torch.Generator().manual_seed(0)
    narrow = torch.randn(5, 7, generator=generator).to(dtype)
    tensors = [torch.ones(3, 3) for _ in range(others)] + [narrow, torch.zeros(4).to(dtype)]
    expected = [3.0] * others + [float(narrow.float().norm()), 0.0]
    assert norms(tensors) == pytest.approx(expected)


@pytest.mark.parametrize("norms", [on_host, on_device])
@pytest.mark.parametrize("dtype", NARROW)
def test_a_nan_among_them_is_seen(norms, dtype):
    assert math.isnan(norms([torch.tensor([1.0, math.nan]).to(dtype)])[0])


def test_a_plan_holds_where_the_kind_changes():
    engine = HostNorms([torch.ones(4), torch.ones(9)])
    for dtype in [torch.float8_e4m3fn, torch.float32, torch.float8_e5m2]:
        assert engine([torch.ones(4).to(dtype), torch.ones(9)])[0].tolist() == [2.0, 3.0]
