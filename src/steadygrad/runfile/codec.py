"""Norms as 16-bit logarithmic codes.

A code is the natural logarithm in steps of 1/256, so the relative error is at most
``exp(1/512) - 1``, below 0.2 %, from 3e-56 to 3e55. Coding a decoded value gives the same code
again, so chunks can be merged for ever without a further loss.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from steadygrad.records import BoolArray, FloatArray

CodeArray = NDArray[np.uint16]

ZERO, ABSENT, NAN, INF, EXACT = range(5)
STEPS_PER_NAT = 256.0
CODE_OF_ONE = 32770
_FIRST, _LAST = 5, 65535


def encode(values: FloatArray, absent: BoolArray | None = None) -> tuple[CodeArray, NDArray[np.float64]]:
    """Turn values into codes.

    Args:
        values: any shape; NaN, Inf and 0 have codes of their own.
        absent: same shape, True where there is no value.

    Returns:
        The codes, and the values of all cells coded `EXACT`, in C order: those no code covers
        (negative, or outside 3e-56 to 3e55).

    Example:
        >>> codes, exact = encode(np.array([1.0, 0.0, -2.0]))
        >>> codes.tolist(), exact.tolist()
        ([32770, 0, 4], [-2.0])
    """
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = np.rint(np.log(values) * STEPS_PER_NAT) + CODE_OF_ONE
        covered = (raw >= _FIRST) & (raw <= _LAST)
    codes = np.where(covered, raw, EXACT).astype(np.uint16)
    codes[values == 0.0] = ZERO
    codes[np.isnan(values)] = NAN
    codes[values == np.inf] = INF
    if absent is not None:
        codes[absent] = ABSENT
    return codes, values[codes == EXACT]


def decode(codes: CodeArray) -> NDArray[np.float64]:
    """Turn codes into values; 0 for `ABSENT`, NaN for `EXACT`, which the caller fills in.

    Args:
        codes: any shape.

    Returns:
        The values, same shape.

    Example:
        >>> decode(np.array([32770, 0, 3], dtype=np.uint16)).tolist()
        [1.0, 0.0, inf]
    """
    return _table()[codes]


@cache
def _table() -> NDArray[np.float64]:
    table = np.exp((np.arange(65536) - CODE_OF_ONE) / STEPS_PER_NAT)
    table[[ZERO, ABSENT, NAN, INF, EXACT]] = [0.0, 0.0, np.nan, np.inf, np.nan]
    table.flags.writeable = False
    return table
