"""What a run says of its steps: one array a column, one entry a row.

Shape legend: T rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from steadygrad.records import BoolArray
from steadygrad.runfile.block import HAS_LOSS, OVERFLOW, SKIPPED, Float64Array, Head, IntArray


class Rows(ABC):
    """The per-step columns of a run, read from ``_head``."""

    @property
    @abstractmethod
    def _head(self) -> Head:
        """All columns."""

    @property
    def steps(self) -> IntArray:
        """Index of each row's (first) step ``[T]``."""
        return self._head.step

    @property
    def optimizer(self) -> IntArray:
        """Index of the optimizer that stepped ``[T]``."""
        return self._head.optimizer

    @property
    def resolution(self) -> IntArray:
        """Steps each row stands for ``[T]``; 1 at full resolution."""
        return self._head.resolution

    @property
    def total_norm(self) -> Float64Array:
        """Norm of all gradients together ``[T]``."""
        return self._head.total_norm

    @property
    def total_norm_min(self) -> Float64Array:
        """Smallest finite total norm of each row ``[T]``."""
        return self._head.total_low

    @property
    def total_norm_max(self) -> Float64Array:
        """Largest finite total norm of each row ``[T]``."""
        return self._head.total_high

    @property
    def loss(self) -> Float64Array:
        """Loss ``[T]``; NaN where it is NaN, and where none was logged (see ``loss_logged``)."""
        return self._head.loss

    @property
    def loss_logged(self) -> BoolArray:
        """Whether a loss was logged ``[T]``."""
        return (self._head.flags & HAS_LOSS) > 0

    @property
    def lr(self) -> Float64Array:
        """Learning rate as the schedule set it ``[T]``."""
        return self._head.lr

    @property
    def lr_factor(self) -> Float64Array:
        """What steadygrad multiplied the learning rate by ``[T]``."""
        return self._head.lr_factor

    @property
    def clip_coef(self) -> Float64Array:
        """Smallest factor applied to a gradient ``[T]``."""
        return self._head.clip_coef

    @property
    def cap(self) -> Float64Array:
        """Total norm above which a step would have been scaled ``[T]``; NaN without a cap."""
        return self._head.cap

    @property
    def skipped(self) -> BoolArray:
        """Whether the step was left out ``[T]``."""
        return (self._head.flags & SKIPPED) > 0

    @property
    def overflow(self) -> BoolArray:
        """Whether a ``GradScaler`` was looking for its scale ``[T]``."""
        return (self._head.flags & OVERFLOW) > 0

    @property
    def time_s(self) -> Float64Array:
        """Seconds since the run began ``[T]``, to a millisecond."""
        return self._head.time_s

    @property
    def nonfinite_count(self) -> IntArray:
        """Non-finite norms in each row ``[T]``, counted over tensors and steps."""
        return self._head.nonfinite
