from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.reference import agc_rows, bits
from tests.policies.streams import measurement, patient, reading

from steadygrad.errors import PolicyError
from steadygrad.policies import agc
from steadygrad.policies.agc import INIT_UNIT_NORM

SHAPES = st.sampled_from([(), (1,), (5,), (3, 4), (2, 3, 2, 2), (1, 6)])
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.complex64])


def tensor(shape, dtype, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=dtype, generator=generator) * scale


@patient
@given(
    st.lists(st.tuples(SHAPES, DTYPES), min_size=1, max_size=4),
    st.sampled_from([0.0, 1e-3, 1.0, 100.0]),
    st.sampled_from([1e-6, 1e-2, 1.0, 1e6]),
    st.sampled_from([1e-3, 0.01, 1.0]),
    st.integers(0, 1000),
)
def test_units_match_the_row_by_row_reference(kinds, weight_scale, grad_scale, clipping, seed):
    weights = [tensor(shape, dtype, weight_scale, seed) for shape, dtype in kinds]
    grads = [tensor(shape, dtype, grad_scale, seed + 1) for shape, dtype in kinds]
    wanted = [agc_rows(w, g, clipping, INIT_UNIT_NORM) for w, g in zip(weights, grads, strict=True)]
    factor = agc(clipping).rewrite_(measurement(grads, weights))
    for grad, (want, _) in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad, want)
    assert float(factor) == pytest.approx(min(smallest for _, smallest in wanted), rel=1e-5)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]
)
def test_small_gradients_stay_bit_identical(dtype):
    grad = tensor((4, 3), dtype, 1e-3, 0)
    grad[0] = -0.0
    before = bits(grad)
    assert float(agc(0.05).rewrite_(measurement([grad], [torch.ones(4, 3, dtype=dtype)]))) == 1.0
    assert bits(grad) == before


def test_a_wild_row_leaves_its_neighbours_alone():
    grad = torch.full((3, 4), 1e-4)
    grad[1] = 100.0
    agc(0.01).rewrite_(measurement([grad], [torch.ones(3, 4)]))
    assert grad[[0, 2]].eq(1e-4).all()
    assert float(grad[1].norm()) == pytest.approx(0.01 * 2.0)


@pytest.mark.parametrize("shape", [(8, 16), (8,), ()])
def test_a_zero_initialised_tensor_grows_to_a_normal_size_in_some_hundred_steps(shape):
    def size_after(eps):
        weight = torch.zeros(shape)
        for _ in range(300):
            grad = -torch.ones(shape)  # the loss wants it larger, however large it is
            agc(0.01, eps=eps).rewrite_(measurement([grad], [weight]))
            weight -= 0.5 * grad
        return float(weight.norm())

    assert size_after(INIT_UNIT_NORM) > 0.8
    assert size_after(1e-3) < 0.02  # the paper's eps: still as good as nothing


def test_torch_initialises_units_with_the_norm_taken_for_eps():
    norms = torch.nn.Linear(300, 500).weight.detach().norm(dim=1)
    assert float(norms.mean()) == pytest.approx(INIT_UNIT_NORM, rel=0.02)


def test_the_bound_follows_the_loss_scale():
    true = tensor((3, 4), torch.float32, 10.0, 0)
    weight = torch.ones(3, 4)
    want, smallest = agc_rows(weight, true, 0.01, INIT_UNIT_NORM)
    scaled = true * 512.0
    factor = agc(0.01).rewrite_(measurement([scaled], [weight], grad_scale=512.0))
    torch.testing.assert_close(scaled / 512.0, want)
    assert float(factor) == pytest.approx(smallest, rel=1e-5)


def test_excluded_names_and_sparse_gradients_are_left_alone():
    sparse = torch.sparse_coo_tensor(
        torch.tensor([[0, 0]]), torch.full((2, 4), 9.0), (3, 4), check_invariants=True
    )
    grads = [torch.full((3, 4), 9.0), torch.full((3, 4), 9.0), sparse]
    before = bits(grads[1]), bits(sparse)
    agc(exclude=("head.*",)).rewrite_(
        measurement(grads, names=["body.weight", "head.weight", "table.weight"])
    )
    assert float(grads[0].max()) < 0.1
    assert (bits(grads[1]), bits(sparse)) == before


def test_gradients_are_matched_to_their_own_weights_when_some_are_absent():
    grads = [None, torch.full((1, 4), 9.0), None, torch.full((1, 4), 9.0)]
    weights = [torch.full((1, 4), value) for value in (1.0, 10.0, 100.0, 1000.0)]
    agc(0.01).rewrite_(measurement(grads, weights))
    assert float(grads[1].norm()) == pytest.approx(0.01 * 20.0)
    assert float(grads[3].norm()) == pytest.approx(18.0)


def test_rows_whose_norm_overflows_float32_are_scaled_right():
    grad = torch.full((2, 4), 3e38)
    factor = agc(0.01).rewrite_(measurement([grad], [torch.ones(2, 4)]))
    assert grad.norm(dim=1).tolist() == pytest.approx([0.02, 0.02])
    assert 0.0 < float(factor) < 1e-38


def test_empty_gradients_and_none_at_all_are_fine():
    assert float(agc().rewrite_(measurement([torch.empty(0, 3), None]))) == 1.0


def test_explain_names_a_pattern_that_matches_nothing():
    policy = agc(exclude=("body.*", "hed.*"))
    policy.rewrite_(measurement([torch.ones(2)], names=["body.bias"]))
    policy.learn(reading([1.0], 0.5))
    assert "scaled 1 of 1 steps" in policy.explain()
    assert "matches exclude: hed.*." in policy.explain()


@pytest.mark.parametrize("exclude", ["fc.*", (1,), None, 3.5, True, torch.nn.Linear(1, 1)])
def test_exclude_must_be_a_sequence_of_names(exclude):
    with pytest.raises(PolicyError, match=r"agc\(exclude=.*sequence of names"):
        agc(exclude=exclude)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_eps_must_be_above_zero(value):
    with pytest.raises(PolicyError, match=r"agc\(eps="):
        agc(eps=value)
