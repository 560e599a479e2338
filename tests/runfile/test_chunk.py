import dataclasses

import numpy as np
import pytest

from steadygrad.errors import RunFileError
from steadygrad.runfile.block import HAS_CAP, HAS_LOSS, OVERFLOW, SKIPPED, join
from steadygrad.runfile.chunk import pack, unpack, unpack_head
from steadygrad.runfile.coding import Layout, from_readings
from steadygrad.runfile.matrix import Matrix


def arrays(record):
    """Every array in a nest of dataclasses, by path."""
    found = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        inner = arrays(value) if dataclasses.is_dataclass(value) else {"": value}
        found |= {f"{field.name}.{path}": array for path, array in inner.items()}
    return found


def assert_same(a, b):
    other = arrays(b)
    for path, array in arrays(a).items():
        np.testing.assert_array_equal(array, other[path], err_msg=path)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("steps", "tensors"), [(1, 1), (1, 7), (64, 1), (70, 9), (5, 0)])
def test_a_block_comes_back_from_bytes(wild, tensors_named, steps, tensors, seed):
    readings = wild(steps, tensors, seed)
    back = unpack(*pack(from_readings(readings, Layout(tensors_named(tensors)))))
    assert back.rows == steps
    norms = np.array([reading.norms for reading in readings]).reshape(steps, tensors)
    np.testing.assert_allclose(back.body.norms.values(), norms, rtol=0.002)
    missing = [r.absent if r.absent is not None else np.zeros(tensors, bool) for r in readings]
    np.testing.assert_array_equal(back.body.norms.absent(), np.reshape(missing, (steps, tensors)))
    np.testing.assert_allclose(back.head.total_norm, [r.total_norm for r in readings], rtol=2**-12)
    np.testing.assert_allclose(back.head.time_s, [r.time_s for r in readings], atol=5e-4)
    flags = np.array([_flags(reading) for reading in readings])
    np.testing.assert_array_equal(back.head.flags, flags)


def _flags(reading):
    logged, capped = reading.loss is not None, reading.cap is not None
    return SKIPPED * reading.skipped + OVERFLOW * reading.overflow + HAS_LOSS * logged + HAS_CAP * capped


def test_packing_again_changes_nothing(wild, tensors_named):
    once = unpack(*pack(from_readings(wild(100, 5), Layout(tensors_named(5)))))
    assert_same(once, unpack(*pack(once)))


def test_joined_blocks_are_the_block_of_all_readings(wild, tensors_named):
    readings, layout = wild(90, 5), Layout(tensors_named(5))
    parts = [from_readings(readings[a:b], layout) for a, b in [(0, 1), (1, 40), (40, 90)]]
    assert_same(join(parts), from_readings(readings, layout))


def test_a_tensor_that_came_later_is_absent_before(wild, tensors_named):
    parts = [from_readings(wild(10, count), Layout(tensors_named(count))) for count in (3, 5)]
    absent = join(parts).body.norms.absent()
    assert absent[:10, 3:].all()
    assert absent.shape == (20, 5)


def test_norms_of_one_optimizer_go_to_its_own_tensors(wild, tensors_named):
    tensors = (*tensors_named(2), *tensors_named(3, optimizer=1, start=2))
    reading = dataclasses.replace(wild(1, 3)[0], optimizer=1, absent=None, norms=np.array([1.0, 2.0, 3.0]))
    block = from_readings([dataclasses.replace(reading, param_norms=None)], Layout(tensors))
    np.testing.assert_allclose(block.body.norms.values(), [[0, 0, 1, 2, 3]], rtol=0.002)
    np.testing.assert_array_equal(block.body.norms.absent(), [[True, True, False, False, False]])


def test_norms_that_fit_no_optimizer_are_refused(wild, tensors_named):
    with pytest.raises(ValueError, match=r"has 3 norms; the run has 5 tensors, 5 of them"):
        from_readings(wild(1, 3), Layout(tensors_named(5)))


def test_infinite_times_survive(wild, tensors_named):
    odd = [dataclasses.replace(reading, time_s=float("inf")) for reading in wild(3, 2)]
    head = unpack_head(pack(from_readings(odd, Layout(tensors_named(2))))[0])
    assert np.isinf(head.time_s).all()


@pytest.mark.parametrize("part", [0, 1])
def test_cut_bytes_say_they_are_damaged(wild, tensors_named, part):
    packed = list(pack(from_readings(wild(20, 3), Layout(tensors_named(3)))))
    packed[part] = packed[part][: len(packed[part]) // 2]
    with pytest.raises(RunFileError, match="damaged"):
        unpack(*packed)


@pytest.mark.parametrize("rows", [[0], [2, 0, 2], [], [4, 3]])
def test_taken_rows_are_those_of_the_values(rows):
    values = np.array([[1.0, 1e300], [2.0, np.nan], [1e-300, np.inf], [0.0, 3.0], [-1.0, 4.0]])
    matrix, index = Matrix.of(values), np.array(rows, np.intp)
    np.testing.assert_array_equal(matrix.take(index).values(), matrix.values()[index])
    for tensor in range(2):
        np.testing.assert_array_equal(matrix.column(tensor), matrix.values()[:, tensor])
