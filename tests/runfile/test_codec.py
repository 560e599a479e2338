import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steadygrad.runfile.codec import ABSENT, EXACT, INF, NAN, ZERO, decode, encode

ANY = hnp.arrays(np.float64, hnp.array_shapes(max_dims=2, max_side=20, min_side=0), elements=st.floats())
COVERED = hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(3e-55, 3e54))


@given(ANY)
def test_special_values_are_told_apart_and_the_rest_is_exact(values):
    codes, exact = encode(values)
    back = decode(codes)
    back[codes == EXACT] = exact
    outside = codes == EXACT
    np.testing.assert_array_equal(back[outside], values[outside])
    np.testing.assert_array_equal(np.isnan(values), codes == NAN)
    np.testing.assert_array_equal(values == np.inf, codes == INF)
    np.testing.assert_array_equal(values == 0, codes == ZERO)
    inside = ~outside & np.isfinite(values)
    np.testing.assert_allclose(back[inside], values[inside], rtol=0.002)


@given(COVERED)
def test_a_covered_value_needs_two_bytes(values):
    assert encode(values)[1].size == 0


def test_float32_denormals_and_largest_are_covered():
    values = np.array([np.float32(1e-45), np.finfo(np.float32).max], np.float64)
    codes, exact = encode(values)
    assert exact.size == 0
    np.testing.assert_allclose(decode(codes), values, rtol=0.002)


def test_coding_every_decoded_code_gives_the_same_code():
    codes = np.arange(65536, dtype=np.uint16)
    plain = (codes != EXACT) & (codes != ABSENT)
    np.testing.assert_array_equal(encode(decode(codes[plain]))[0], codes[plain])


def test_an_absent_cell_hides_its_value():
    codes, exact = encode(np.array([np.nan, 1e300, 1.0]), np.array([True, True, False]))
    assert codes[:2].tolist() == [ABSENT, ABSENT]
    assert exact.size == 0
