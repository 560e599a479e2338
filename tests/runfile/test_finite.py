import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.runfile.finite import dumps, loads

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.sampled_from(["$float", "$$float", "$"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(PLAIN)
def test_everything_comes_back_with_nan_and_inf(value):
    assert same(loads(dumps(value)), value)


@given(PLAIN)
def test_the_text_is_json_that_a_strict_parser_takes(value):
    def refuse(word):
        raise AssertionError(word)

    json.loads(dumps(value), parse_constant=refuse)
    dumps(value).encode("ascii")


def test_numpy_numbers_become_plain_ones():
    text = dumps(
        {"a": np.float32(np.nan), "b": np.int64(3), "c": np.array([1.0, np.inf]), "d": np.bool_(True)}
    )
    back = loads(text)
    assert math.isnan(back["a"])
    assert (back["b"], back["c"], back["d"]) == (3, [1.0, math.inf], True)


def test_other_objects_are_refused_by_name():
    with pytest.raises(TypeError, match="object"):
        dumps(object())
