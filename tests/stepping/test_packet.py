from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.stepping.packet import pack, unpack

numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(
    st.lists(numbers, min_size=1, max_size=8),
    numbers,
    st.none() | st.floats(0.0, 1.0, width=32),
    st.booleans(),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_what_goes_in_comes_out(norms, total, coef, with_params, with_updates, dtype):
    values = torch.tensor(norms, dtype=dtype)
    extras = [values * 2 if with_params else None, (values * 3).to(torch.float32) if with_updates else None]
    device_coef = None if coef is None else torch.tensor(coef, dtype=torch.float64)
    packet = pack(torch.tensor(total, dtype=torch.float64), device_coef, values, extras)
    assert packet.dim() == 1
    got_total, got_coef, got_norms, (params, updates) = unpack(
        packet.numpy(), len(norms), (with_params, with_updates)
    )
    np.testing.assert_equal(np.float32(got_total), np.float32(total))
    assert got_coef == (1.0 if coef is None else coef)
    np.testing.assert_array_equal(got_norms, values.numpy())
    assert (params is None, updates is None) == (not with_params, not with_updates)
    if params is not None:
        np.testing.assert_array_equal(params, (values * 2).numpy())
    if updates is not None:
        np.testing.assert_array_equal(updates, extras[1].to(dtype).numpy())


def test_no_tensor_at_all():
    packet = pack(torch.zeros(()), None, torch.zeros(0), [None, None])
    total, coef, norms, _ = unpack(packet.numpy(), 0, (False, False))
    assert (total, coef, len(norms)) == (0.0, 1.0, 0)
    assert math.isfinite(total)
