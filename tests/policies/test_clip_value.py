from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.reference import bits, clip_value_elementwise
from tests.policies.streams import measurement, patient

from steadygrad.policies import clip_value

ELEMENTS = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8)


@patient
@given(st.lists(ELEMENTS, min_size=1, max_size=4), st.floats(0.0625, 50.0, width=32))
def test_real_gradients_match_the_elementwise_reference(rows, limit):
    grads = [torch.tensor(row) for row in rows]
    wanted = [clip_value_elementwise(grad, limit) for grad in grads]
    largest = max(float(grad.abs().max()) for grad in grads)
    factor = clip_value(limit).rewrite_(measurement(grads))
    for grad, want in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad, want)
    assert float(factor) == pytest.approx(min(1.0, limit / largest) if largest else 1.0, rel=1e-6)


@patient
@given(ELEMENTS, ELEMENTS, st.floats(0.0625, 50.0, width=32))
def test_complex_gradients_are_clamped_by_modulus(real, imag, limit):
    size = min(len(real), len(imag))
    grad = torch.complex(torch.tensor(real[:size]), torch.tensor(imag[:size]))
    want = clip_value_elementwise(grad, limit)
    clip_value(limit).rewrite_(measurement([grad]))
    torch.testing.assert_close(grad, want)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]
)
@pytest.mark.parametrize("grad_scale", [None, 1.0])
def test_elements_within_the_bound_stay_bit_identical(dtype, grad_scale):
    grad = torch.tensor([0.5, -0.5, 0.0, -0.0, 1e-7, -0.3], dtype=dtype)
    if dtype.is_complex:
        grad = torch.complex(grad.real, grad.real.flip(0).neg())
        grad[0] = 0.5
    before = bits(grad)
    factor = clip_value(0.59).rewrite_(measurement([grad], grad_scale=grad_scale))
    assert bits(grad) == before
    assert float(factor) == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_bound_follows_the_loss_scale(dtype):
    true = torch.tensor([0.25, -8.0, 2.0])
    scaled = (true * 1024.0).to(dtype)
    factor = clip_value(1.0).rewrite_(measurement([scaled], grad_scale=1024.0))
    torch.testing.assert_close(scaled.float() / 1024.0, torch.tensor([0.25, -1.0, 1.0]))
    assert float(factor) == pytest.approx(1 / 8)


@pytest.mark.parametrize("value", [1e300, 1e6])
def test_a_bound_beyond_the_dtype_changes_nothing(value):
    grad = torch.tensor([60000.0, -60000.0], dtype=torch.float16)
    assert float(clip_value(value).rewrite_(measurement([grad]))) == 1.0
    assert grad.tolist() == [60000.0 // 32 * 32, -(60000.0 // 32 * 32)]


def test_repeated_indices_of_a_sparse_gradient_are_added_before_clamping():
    indices = torch.tensor([[0, 0, 2]])
    values = torch.tensor([[0.9, 0.1], [0.9, 0.1], [-3.0, 0.5]])
    grad = torch.sparse_coo_tensor(indices, values, (4, 2), check_invariants=True)
    want = clip_value_elementwise(grad, 1.0)
    factor = clip_value(1.0).rewrite_(measurement([grad]))
    torch.testing.assert_close(grad.to_dense(), want)
    assert float(factor) == pytest.approx(1 / 3)


def test_empty_gradients_and_none_at_all_are_fine():
    empty_sparse = torch.sparse_coo_tensor(
        torch.zeros(1, 0, dtype=torch.long), torch.zeros(0, 2), (4, 2), check_invariants=True
    )
    assert float(clip_value(1.0).rewrite_(measurement([torch.empty(0), empty_sparse]))) == 1.0
    assert float(clip_value(1.0).rewrite_(measurement([None, None]))) == 1.0


def test_a_huge_finite_element_gives_a_factor_above_zero():
    grad = torch.tensor([3e38, 1.0])
    assert 0.0 < float(clip_value(1e-3).rewrite_(measurement([grad]))) < 1e-30
    assert grad.tolist() == pytest.approx([1e-3, 1e-3])


def test_gradients_of_a_differentiable_backward_are_clamped_too():
    weight = torch.ones(2, requires_grad=True)
    (grad,) = torch.autograd.grad((weight**3).sum(), weight, create_graph=True)
    clip_value(1.0).rewrite_(measurement([grad]))
    assert grad.tolist() == [1.0, 1.0]
