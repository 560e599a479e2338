from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.measure.reference import slow_norm, slow_norms, slow_total
from torch.utils._python_dispatch import TorchDispatchMode

from steadygrad.measure import HostNorms, device_norms, host_total
from steadygrad.measure.host_norms import COPIED_NUMEL, MANY
from steadygrad.measure.out_of_range import widened
from steadygrad.measure.pieces import PIECE_NUMEL

SHAPES = st.sampled_from([(), (1,), (0,), (7,), (3, 5), (2, 0, 3), (40, 30), (2, 3, 3, 3)])
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64])
SCALES = st.sampled_from([0.0, 1e-30, 1e-20, 1e-4, 1.0, 1e4, 1e18, 1e30, 3e37])
POISONS = st.sampled_from([None, None, None, math.inf, -math.inf, math.nan])
patient = settings(deadline=None, max_examples=80)


def make(shape, dtype, scale, poison, seed):
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, dtype=torch.float64, generator=generator) * scale
    tensor = tensor.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(dtype)
    if poison is not None and tensor.numel():
        tensor.view(-1)[-1] = poison
    return tensor


def host_norms(tensors):
    return HostNorms(tensors)(tensors)[0]


def assert_norms(found, tensors, rel=2e-3):
    expected = slow_norms(tensors)
    assert len(found) == len(expected)
    for got, want in zip([float(x) for x in found], expected, strict=True):
        assert got == pytest.approx(want, rel=rel, abs=0.0, nan_ok=True)


grads = st.lists(st.builds(make, SHAPES, DTYPES, SCALES, POISONS, st.integers(0, 99)), min_size=1, max_size=6)


@patient
@given(grads)
def test_host_norms_equal_the_slow_truth(tensors):
    assert_norms(host_norms(tensors), tensors)


@patient
@given(grads)
def test_device_norms_equal_the_slow_truth(tensors):
    assert_norms(device_norms(tensors), tensors)


@patient
@given(grads)
def test_total_of_host_norms_equals_the_slow_truth(tensors):
    _, total = HostNorms(tensors)(tensors)
    assert total == pytest.approx(slow_total(tensors), rel=2e-3, abs=0.0, nan_ok=True)


@patient
@given(st.integers(MANY, 2 * MANY), st.sampled_from([1e-4, 1.0, 1e19, 1e25]), POISONS, st.integers(0, 99))
def test_many_tiny_tensors_taken_together_equal_the_slow_truth(count, scale, poison, seed):
    tensors = [make((1 + i % 9,), torch.float32, scale, None, seed + i) for i in range(count)]
    if poison is not None:
        tensors[seed % count][0] = poison
    assert_norms(host_norms(tensors), tensors)


def test_402_tiny_tensors():
    tensors = [torch.randn(64 if i % 2 else (64, 64)) for i in range(402)]
    engine = HostNorms(tensors)
    assert_norms(engine(tensors)[0], tensors, rel=1e-5)
    fresh = [torch.randn_like(tensor) for tensor in tensors]
    assert_norms(engine(fresh)[0], fresh, rel=1e-5)


@pytest.mark.parametrize("measure", [host_norms, device_norms], ids=["host", "device"])
class TestEveryKind:
    def test_zero_dimensional(self, measure):
        assert_norms(measure([torch.tensor(-3.0)]), [torch.tensor(-3.0)])

    def test_only_empty_tensors(self, measure):
        tensors = [torch.empty(0), torch.empty(3, 0)]
        assert [float(x) for x in measure(tensors)] == [0.0, 0.0]

    def test_channels_last_and_other_strides(self, measure):
        image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
        tensors = [image, torch.randn(4, 6).t(), torch.randn(3).expand(5, 3)]
        assert_norms(measure(tensors), tensors)

    def test_sparse_gradient_with_repeated_indices(self, measure):
        values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        sparse = torch.sparse_coo_tensor([[0, 2, 0]], values, (4, 2), check_invariants=True)
        tensors = [torch.randn(3), sparse]
        assert_norms(measure(tensors), tensors)
        assert float(measure(tensors)[1]) == pytest.approx(math.sqrt(36 + 64 + 9 + 16))

    def test_sparse_gradient_without_any_entry(self, measure):
        empty = torch.sparse_coo_tensor(
            torch.zeros((1, 0), dtype=torch.int64), torch.zeros((0, 2)), (4, 2), check_invariants=True
        )
        assert [float(x) for x in measure([empty])] == [0.0]

    def test_float16_norm_beyond_float16(self, measure):
        tensors = [torch.full((4,), 4e4, dtype=torch.float16)]
        assert float(measure(tensors)[0]) == pytest.approx(8e4, rel=1e-3)

    def test_bfloat16_norm_has_more_than_three_digits(self, measure):
        tensors = [torch.ones(10_007, dtype=torch.bfloat16)]
        assert float(measure(tensors)[0]) == pytest.approx(math.sqrt(10_007), rel=1e-6)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.bfloat16])
    def test_finite_gradient_whose_float32_norm_overflows(self, measure, dtype):
        tensors = [torch.full((1000,), 1e38, dtype=dtype), torch.ones(3)]
        norms = measure(tensors)
        assert float(norms[0]) == pytest.approx(slow_norm(tensors[0]), rel=1e-5)
        assert float(norms[1]) == pytest.approx(math.sqrt(3.0))

    @pytest.mark.parametrize(
        ("poison", "kind"), [(math.inf, np.isinf), (-math.inf, np.isinf), (math.nan, np.isnan)]
    )
    def test_overflow_is_told_apart_from_inf_and_nan(self, measure, poison, kind):
        finite, poisoned = torch.full((1000,), 1e38), torch.full((1000,), 1e38)
        poisoned[7] = poison
        norms = [float(x) for x in measure([finite, poisoned])]
        assert np.isfinite(norms[0])
        assert kind(norms[1])

    def test_a_conjugated_gradient_is_measured_like_its_values(self, measure):
        tensors = [torch.full((1000,), 1e38 + 1e38j).conj()]
        assert tensors[0].is_conj()
        assert float(measure(tensors)[0]) == pytest.approx(math.sqrt(2000) * 1e38, rel=1e-5)

    def test_inf_beside_nan_is_nan(self, measure):
        assert math.isnan(float(measure([torch.tensor([math.inf, math.nan, 1e38])])[0]))

    def test_order_is_kept_over_mixed_kinds(self, measure):
        kinds = [torch.float32, torch.float64, torch.bfloat16, torch.complex64]
        tensors = [torch.full((2,), float(i + 1), dtype=kinds[i % 4]) for i in range(13)]
        expected = [(i + 1) * math.sqrt(2.0) for i in range(13)]
        assert [float(x) for x in measure(tensors)] == pytest.approx(expected, rel=1e-6)


def test_one_float64_list_keeps_its_precision():
    value = 1.0 + 1e-12
    assert (
        float(HostNorms([torch.tensor([value])])([torch.tensor([value], dtype=torch.float64)])[0][0]) == value
    )


def test_float64_norm_at_the_end_of_the_range():
    tensors = [torch.full((2,), 1e308, dtype=torch.float64), torch.full((2,), 1e308, dtype=torch.float64)]
    norms = host_norms(tensors)
    assert float(norms[0]) == pytest.approx(math.sqrt(2.0) * 1e308)
    assert host_total(norms) == math.inf


@pytest.mark.parametrize("count", [3, 2 * MANY])
def test_plan_follows_a_gradient_that_turns_sparse_and_back(count):
    dense = [torch.randn(4, 2) for _ in range(count)]
    engine = HostNorms(dense)
    mixed = [dense[0].to_sparse(), *dense[1:]]
    for tensors in (dense, mixed, dense, mixed):
        assert_norms(engine(tensors)[0], tensors, rel=1e-6)


@pytest.mark.parametrize("count", [3, 2 * MANY])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_plan_follows_a_gradient_that_changes_its_dtype(count, dtype):
    first = [torch.full((2,), 3.0) for _ in range(count)]
    engine = HostNorms(first)
    engine(first)
    changed = [torch.full((2,), 3.0, dtype=dtype), *first[1:]]
    assert_norms(engine(changed)[0], changed, rel=1e-3)


@pytest.mark.parametrize("count", [3, 2 * MANY])
def test_plan_follows_a_gradient_that_changes_its_size(count):
    first = [torch.ones(4) for _ in range(count)]
    engine = HostNorms(first)
    engine(first)
    changed = [torch.ones(9), *first[1:]]
    assert_norms(engine(changed)[0], changed, rel=1e-6)


def test_no_tensor_at_all_has_no_norm():
    norms, total = HostNorms([])([])
    assert (len(norms), total) == (0, 0.0)


def test_widened_leaves_finite_norms_alone():
    tensors = [torch.ones(2), torch.full((4,), 3e38)]
    norms = widened(np.array([1.25, np.inf], np.float32), tensors)
    assert norms.tolist() == [1.25, pytest.approx(6e38)]


@pytest.mark.parametrize(
    ("norms", "total"),
    [
        ([], 0.0),
        ([0.0, 0.0], 0.0),
        ([3.0, 4.0], 5.0),
        ([3e38, 3e38], math.sqrt(18.0) * 1e38),
        ([1e-30, 1e-30], math.sqrt(2.0) * 1e-30),
        ([math.inf, 1.0], math.inf),
        ([math.nan, 1.0], math.nan),
        ([math.inf, math.nan], math.nan),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_host_total(norms, total, dtype):
    assert host_total(np.array(norms, dtype)) == pytest.approx(total, rel=1e-6, abs=0.0, nan_ok=True)


def test_tiny_gradients_are_not_taken_for_zero():
    tensors = [torch.full((100,), 1e-30), torch.ones(2)]
    assert float(host_norms(tensors)[0]) == pytest.approx(1e-29, rel=1e-3, abs=0.0)
    assert float(device_norms(tensors)[0]) == pytest.approx(1e-29, rel=1e-3, abs=0.0)


@pytest.mark.parametrize("odd", [0.0, 1e-42, 1e-30, -1e-24, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_one_odd_number_among_many_tensors_of_zeros(odd, dtype):
    tensors = [torch.zeros(size, dtype=dtype) for size in (64, 64, 16, 1, 5000, 40_000)] + [torch.ones(2)]
    for place in (0, 3, 4, 5):
        tensors[place][-1] = odd
    held = float(tensors[0][-1])
    norms = host_norms(tensors)
    assert norms[[0, 3, 4, 5]] == pytest.approx([abs(held)] * 4, rel=1e-6, abs=0.0, nan_ok=True)
    assert norms[[1, 2]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("size", [1e-15, 1e-18, 3e-20, 1e-21, 1e-23, 1e-30, 1e-40])
def test_gradients_that_are_noise_beside_others_have_their_true_norms(size):
    generator = torch.Generator().manual_seed(0)
    shapes = [(64,), (64, 3, 3), (128, 256, 3, 3), (1,), (5, 5)]
    noise = [size * torch.randn(shape, generator=generator) for shape in shapes]
    noise[4][0, 0] = math.nan
    tensors = [torch.ones(3), *noise, torch.zeros(9), noise[2].transpose(0, 1), torch.full((4,), 3e38)]
    expected = [float(tensor.double().norm()) for tensor in tensors]
    assert host_norms(tensors) == pytest.approx(expected, rel=1e-6, abs=0.0, nan_ok=True)


def test_zero_gradients_are_zero_and_leave_float32():
    norms = host_norms([torch.zeros(3)])
    assert norms.tolist() == [0.0]
    assert norms.dtype == np.float32


@pytest.mark.parametrize("measure", [host_norms, device_norms], ids=["host", "device"])
@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("numel", [1, 3, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_norms_of_zeros_are_never_negative_zeros(measure, zero, numel, dtype):
    norms = np.asarray(measure([torch.full((numel,), zero, dtype=dtype)]))
    assert norms.tolist() == [0.0]
    assert not np.signbit(norms).any()
    assert math.copysign(1.0, host_total(norms)) == 1.0


def test_millions_of_equal_elements_lose_no_precision():
    tensor = torch.full((30_000_000,), 0.01)
    assert float(host_norms([tensor])[0]) == pytest.approx(0.01 * math.sqrt(3e7), rel=1e-4)


LONG_ONES = {
    "bfloat16": lambda: torch.full((20_000_000,), 0.01, dtype=torch.bfloat16),
    "float16": lambda: torch.full((20_000_000,), 0.01, dtype=torch.float16),
    "complex64": lambda: torch.full((10_000_000,), 0.01 + 0.01j),
    "conjugated": lambda: torch.full((10_000_000,), 0.01 + 0.01j).conj(),
    "transposed": lambda: torch.full((5000, 4000), 0.01).t(),
    "cut out": lambda: torch.full((5000, 4001), 0.01)[:, 1:],
    "every other": lambda: torch.full((5000, 8000), 0.01)[:, ::2],
    "repeated": lambda: torch.full((20_000, 1), 0.01).expand(20_000, 1000),
    "sparse": lambda: torch.sparse_coo_tensor(
        torch.arange(5000)[None], torch.full((5000, 4000), 0.01), check_invariants=False, is_coalesced=True
    ),
}


@pytest.mark.parametrize("kind", LONG_ONES)
def test_long_tensors_of_every_kind_lose_no_precision(kind):
    tensor = LONG_ONES[kind]()
    dense = tensor.coalesce().values() if tensor.is_sparse else tensor
    true = float(dense.flatten()[0].abs()) * math.sqrt(dense.numel())
    # Equal numbers round alike, so what a piece of them loses is a bias; taken whole they lose more than 1e-2.
    assert float(host_norms([tensor])[0]) == pytest.approx(true, rel=2e-4)


@pytest.mark.parametrize("last", [1e25, -1e30, math.inf, math.nan, 3.0, 0.0])
@pytest.mark.parametrize("kind", ["bfloat16", "complex64", "transposed", "cut out", "repeated"])
def test_long_tensors_of_every_kind_equal_the_slow_truth(kind, last):
    tensor = {
        "bfloat16": lambda: torch.ones(PIECE_NUMEL + 5, dtype=torch.bfloat16),
        "complex64": lambda: torch.ones(PIECE_NUMEL + 5, dtype=torch.complex64),
        "transposed": lambda: torch.ones(3, PIECE_NUMEL // 2).t(),
        "cut out": lambda: torch.ones(700, 3, 301)[:, 1:, 1:],
        "repeated": lambda: torch.ones(2, 1).expand(2, PIECE_NUMEL),
    }[kind]()
    tensor[(-1,) * tensor.dim()] = last
    few = [tensor, torch.ones(5)]
    assert_norms(host_norms(few), few, rel=2e-4)
    many = [tensor, *torch.ones(MANY, 5)]
    assert_norms(host_norms(many), many, rel=2e-4)


@pytest.mark.parametrize("last", [3.0, 1e25])
@pytest.mark.parametrize("kind", ["bfloat16", "conjugated", "transposed", "cut out", "repeated"])
def test_no_more_than_a_piece_is_copied(kind, last):
    tensor = LONG_ONES[kind]()
    tensor[(-1,) * tensor.dim()] = last
    measure = HostNorms([tensor])
    with _Operations() as operations:
        measure([tensor])
    assert operations.largest <= 2 * PIECE_NUMEL


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_plan_follows_a_long_gradient_that_changes_its_kind(dtype):
    first = [torch.ones(PIECE_NUMEL + 1, dtype=torch.bfloat16), torch.ones(3)]
    engine = HostNorms(first)
    engine(first)
    changed = [torch.full((PIECE_NUMEL + 1,), 1.0 + 1e-3, dtype=dtype), first[1]]
    sparse = [torch.ones(PIECE_NUMEL + 1).to_sparse(), first[1]]
    for tensors in (changed, sparse, first):
        assert_norms(engine(tensors)[0], tensors, rel=1e-6)


@pytest.mark.parametrize("last", [1e39, 1e100, 1e200, math.inf, math.nan])
@pytest.mark.parametrize("count", [3, MANY])
def test_one_float64_tensor_beyond_float32_beside_others(count, last):
    tensors = [*torch.ones(count, 8), torch.full((4,), last, dtype=torch.float64)]
    norms, total = HostNorms(tensors)(tensors)
    assert_norms(norms, tensors, rel=1e-6)
    assert total == pytest.approx(slow_total(tensors), rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("numel", [PIECE_NUMEL - 1, PIECE_NUMEL, PIECE_NUMEL + 1, 2 * PIECE_NUMEL + 5])
@pytest.mark.parametrize("last", [1e25, math.inf, math.nan, 3.0])
def test_tensors_summed_in_pieces_equal_the_slow_truth(numel, last):
    tensors = [torch.ones(numel), torch.ones(40_000), torch.ones(5)]
    tensors[0][-1] = last
    assert_norms(host_norms(tensors), tensors)


@pytest.mark.parametrize("poison", [None, math.nan, math.inf, 1e25])
@pytest.mark.parametrize("which", range(5))
def test_a_long_tensor_among_few_of_other_kinds(which, poison):
    tensors = [
        torch.full((3,), 2.0),
        torch.full((PIECE_NUMEL + 7,), 0.5),
        torch.full((2,), 1e200, dtype=torch.float64),
        torch.full((4,), 3.0, dtype=torch.bfloat16),
        torch.ones(3, 2).T,
    ]
    if poison is not None:
        tensors[which][1] = poison
    assert_norms(HostNorms(tensors)(tensors)[0], tensors, rel=1e-5)


@pytest.mark.parametrize("poison", [1.0, math.nan, math.inf, 1e25])
def test_more_alike_tensors_than_are_copied_at_once(poison):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(64, 64, generator=generator) for _ in range(COPIED_NUMEL // 4096 + MANY + 1)]
    tensors[-1][3, 3] = tensors[COPIED_NUMEL // 4096][0, 0] = poison
    assert_norms(HostNorms(tensors)(tensors)[0], tensors, rel=1e-5)


@pytest.mark.parametrize(("numel", "dots"), [(PIECE_NUMEL, 0), (PIECE_NUMEL + 1, 2)])
def test_only_long_tensors_are_shared_among_threads(numel, dots):
    tensors = [torch.ones(numel), torch.ones(2 * numel, dtype=torch.float64), torch.ones(3)]
    measure = HostNorms(tensors)
    with _Operations() as operations:
        measure(tensors)
    assert operations.names.count("dot") == dots
    assert operations.names.count("_foreach_norm") == 2


class _Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name.removeprefix("aten::"))
        found = func(*args, **(kwargs or {}))
        # The schema says which results are views; what isn't one has memory of its own.
        if isinstance(found, torch.Tensor) and not func.is_view:
            self.largest = max(self.largest, found.numel())
        return found
