from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.reference import clip_norm_factor
from tests.policies.streams import factors, measurement, norms_of_any_size, patient

from steadygrad.policies import clip_norm
from steadygrad.policies.clip_norm import clip_coef

POSITIVE = st.floats(1e-20, 1e20)


@patient
@given(norms_of_any_size(), POSITIVE)
def test_factor_is_the_one_of_the_formula(norm, max_norm):
    (factor,) = factors(clip_norm(max_norm), [norm])
    assert factor == pytest.approx(max(clip_norm_factor(norm, max_norm), 1.1e-38), rel=1e-6)


@patient
@given(POSITIVE)
def test_a_norm_at_the_bound_is_untouched_and_the_next_one_is_not(max_norm):
    bound = torch.tensor(max_norm)
    assert float(clip_coef(bound, max_norm)) == 1.0
    assert float(clip_coef(torch.nextafter(bound, bound * 2), max_norm)) < 1.0


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_norm_of_zero_is_left_alone(zero, dtype):
    assert float(clip_coef(torch.tensor(zero, dtype=dtype), 1.0)) == 1.0


def test_torch_shrinks_a_gradient_at_the_bound_and_this_does_not():
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([1e-4])
    torch.nn.utils.clip_grad_norm_([parameter], 1e-4)
    assert float(parameter.grad) < 0.991e-4
    assert factors(clip_norm(1e-4), [float(np.float32(1e-4))]) == [1.0]


@pytest.mark.parametrize("max_norm", [1e-300, 1e300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", [0.0, 1e-30, 1.0, 3e38])
def test_extreme_bounds_give_factors_above_zero_and_up_to_one(max_norm, dtype, norm):
    factor = float(clip_coef(torch.tensor(norm, dtype=dtype), max_norm))
    assert 0.0 < factor <= 1.0
    assert (factor == 1.0) == (max_norm > 1.0 or norm == 0.0)


def test_a_finite_gradient_too_large_for_float32_is_scaled_not_zeroed():
    measured = measurement([torch.full((4,), 3e38), torch.full((4,), 3e38)])
    factor = clip_norm(1.0).scale(measured)
    clipped = [grad.double() * factor for grad in measured.grads]
    assert math.hypot(*(float(g.norm()) for g in clipped)) == pytest.approx(1.0, rel=1e-6)


def test_the_cap_is_the_bound():
    assert clip_norm(2.5).cap == 2.5
