import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steadygrad.errors import RunFileError
from steadygrad.runfile.planes import PlaneReader, PlaneWriter

BOUND = {"exact": 0.0, "single": 2**-24, "short": 2**-16, "brief": 2**-12}


def packed(method, *arguments):
    out = PlaneWriter()
    getattr(out, method)(*arguments)
    return out.getvalue()


@given(st.binary(max_size=300) | st.binary(min_size=1, max_size=1).map(lambda byte: byte * 500))
def test_a_plane_comes_back_and_never_grows_much(data):
    stored = packed("plane", data)
    assert PlaneReader(stored).plane(len(data)).tobytes() == data
    assert len(stored) <= len(data) + 1


@given(hnp.arrays(np.int64, st.integers(0, 100), elements=st.integers(-(2**63), 2**63 - 1)))
def test_whole_numbers_come_back_exactly(values):
    np.testing.assert_array_equal(PlaneReader(packed("ints", values)).ints(values.size), values)


def test_a_counter_costs_almost_nothing():
    assert len(packed("ints", np.arange(10_000, 90_000))) < 16


@pytest.mark.parametrize("precision", BOUND)
@given(values=hnp.arrays(np.float64, st.integers(0, 80), elements=st.floats()))
def test_numbers_come_back_within_their_precision(precision, values):
    back = PlaneReader(packed("floats", values, precision)).floats(values.size)
    np.testing.assert_array_equal(np.isfinite(back), np.isfinite(values))
    np.testing.assert_array_equal(back[~np.isfinite(values)], values[~np.isfinite(values)])
    good = np.isfinite(values)
    with np.errstate(over="ignore"):
        assert np.all(np.abs(back[good] - values[good]) <= BOUND[precision] * np.abs(values[good]))


@pytest.mark.parametrize("precision", BOUND)
@given(values=hnp.arrays(np.float64, st.integers(0, 80), elements=st.floats(width=32)))
def test_packing_again_loses_nothing_more(precision, values):
    once = PlaneReader(packed("floats", values, precision)).floats(values.size)
    twice = PlaneReader(packed("floats", once, precision)).floats(values.size)
    np.testing.assert_array_equal(once, twice)


def test_a_constant_learning_rate_is_exact_and_free():
    stored = packed("floats", np.full(1024, 0.1), "brief")
    assert PlaneReader(stored).floats(1024).tolist() == [0.1] * 1024
    assert len(stored) < 16


@pytest.mark.parametrize("cut", [0, 1, 5, 40])
def test_damaged_bytes_say_so(cut):
    stored = packed("words", np.arange(100, dtype=np.uint32) % 7 * 1000)[:cut]
    with pytest.raises(RunFileError, match="damaged"):
        PlaneReader(stored).words(100, np.uint32)


def test_bytes_of_a_broken_stream_say_so():
    stored = bytearray(packed("plane", bytes(range(50)) * 20))
    stored[10] ^= 0xFF
    with pytest.raises(RunFileError, match="damaged"):
        PlaneReader(bytes(stored)).plane(1000)
