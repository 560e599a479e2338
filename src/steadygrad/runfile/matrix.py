"""Norms of many steps in memory: the 16-bit codes themselves, tensor by tensor.

Shape legend: T rows, P tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadygrad.records import BoolArray, FloatArray
from steadygrad.runfile.codec import ABSENT, EXACT, CodeArray, decode, encode
from steadygrad.runfile.planes import PlaneReader, PlaneWriter


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """Coded norms, ``[P, T]``: one tensor's history lies together.

    Attributes:
        codes: see `steadygrad.runfile.codec`, ``[P, T]``.
        exact: the values of the cells coded ``EXACT``, in C order of ``codes``.
    """

    codes: CodeArray
    exact: NDArray[np.float64]

    @classmethod
    def of(cls, values: FloatArray, absent: BoolArray | None = None) -> Matrix:
        """Code values ``[T, P]``; ``absent`` ``[T, P]`` marks cells without one."""
        turned = np.ascontiguousarray(values.T)
        return cls(*encode(turned, None if absent is None else np.ascontiguousarray(absent.T)))

    @classmethod
    def empty(cls, tensors: int) -> Matrix:
        """No rows."""
        return cls(np.zeros((tensors, 0), np.uint16), np.zeros(0))

    @property
    def rows(self) -> int:
        """T."""
        return int(self.codes.shape[1])

    @property
    def tensors(self) -> int:
        """P."""
        return int(self.codes.shape[0])

    def values(self) -> NDArray[np.float64]:
        """All values ``[T, P]``; 0 where there is none."""
        values = decode(self.codes)
        if self.exact.size:
            values[self.codes == EXACT] = self.exact
        return np.transpose(values)

    def absent(self) -> BoolArray:
        """Where there is no value ``[T, P]``."""
        return np.transpose(self.codes == ABSENT)

    def absent_column(self, tensor: int) -> BoolArray:
        """Where one tensor has no value ``[T]``."""
        absent: BoolArray = self.codes[tensor] == ABSENT
        return absent

    def column(self, tensor: int) -> NDArray[np.float64]:
        """One tensor's values ``[T]``; 0 where there is none."""
        values = decode(self.codes[tensor])
        if self.exact.size:
            before = np.count_nonzero(self.codes[:tensor] == EXACT)
            here = self.codes[tensor] == EXACT
            values[here] = self.exact[before : before + np.count_nonzero(here)]
        return values

    def widen(self, tensors: int) -> Matrix:
        """The same with tensors added at the end, all absent."""
        missing = tensors - self.tensors
        if missing <= 0:
            return self
        added = np.full((missing, self.rows), ABSENT, np.uint16)
        return Matrix(np.concatenate([self.codes, added]), self.exact)

    def take(self, rows: NDArray[np.intp]) -> Matrix:
        """Only these rows, in this order."""
        codes = np.ascontiguousarray(self.codes[:, rows])
        if not self.exact.size:
            return Matrix(codes, self.exact)
        return Matrix(codes, self.values()[rows].T[codes == EXACT])

    def pack(self, out: PlaneWriter) -> None:
        """Write codes and exact values; absent cells cost next to nothing."""
        absent = self.codes == ABSENT
        out.plane(np.packbits(absent).tobytes())
        present = self.codes[~absent]
        step = np.diff(present, prepend=np.uint16(0)).view(np.int16)
        out.words(((step << 1) ^ (step >> 15)).view(np.uint16))
        out.words(self.exact.view(np.uint64))

    @classmethod
    def unpack(cls, data: PlaneReader, rows: int, tensors: int) -> Matrix:
        """Read what `pack` wrote."""
        cells = rows * tensors
        absent = np.unpackbits(data.plane((cells + 7) // 8), count=cells).astype(np.bool_)
        zigzag = data.words(cells - int(np.count_nonzero(absent)), np.uint16)
        step = (zigzag >> np.uint16(1)) ^ (np.uint16(0) - (zigzag & np.uint16(1)))
        codes = np.full(cells, ABSENT, np.uint16)
        codes[~absent] = np.cumsum(step, dtype=np.uint16)
        exact = data.words(int(np.count_nonzero(codes == EXACT)), np.uint64).view(np.float64)
        return cls(codes.reshape(tensors, rows), exact)


def concat(matrices: Sequence[Matrix], tensors: int) -> Matrix:
    """Join rows; narrower matrices get absent tensors."""
    if not matrices:
        return Matrix.empty(tensors)
    wide = [matrix.widen(tensors) for matrix in matrices]
    codes = np.concatenate([matrix.codes for matrix in wide], axis=1)
    if not any(matrix.exact.size for matrix in wide):
        return Matrix(codes, np.zeros(0))
    values = np.concatenate([matrix.values() for matrix in wide])
    return Matrix(codes, values.T[codes == EXACT])
