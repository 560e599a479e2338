"""Skipping must end: a bounded run of skipped steps, then an error that explains."""

from __future__ import annotations

from collections.abc import Sequence

from steadygrad.detect.finding import listed
from steadygrad.errors import NonfiniteStreak, UsageError
from steadygrad.records import Reading

# A GradScaler starts at 2**16 and halves: after 24 halvings in a row even a float32 gradient would
# have fitted, so the fault is not its scale.
CALIBRATION_STEPS = 24


def check_max_consecutive(value: object) -> None:
    """Raise a UsageError unless ``value`` is None or a whole number of at least 1."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return
    raise UsageError(
        f"guard(max_consecutive_skips={value!r}): expected a whole number of at least 1, or None to go on for ever."
    )


class SkipStreak:
    """Counts skipped steps in a row.

    Args:
        max_consecutive: skips in a row at which the run is to be stopped; None tolerates any number.
    """

    def __init__(self, max_consecutive: int | None) -> None:
        self._max = max_consecutive
        self.first_step = 0
        self.length = 0
        self._overflows = 0
        self.went_back_to: int | None = None

    def observe(self, reading: Reading) -> bool:
        """Count one step; returns True when the streak has become too long.

        Overflow steps of a ``GradScaler`` that is still looking for its scale don't count.
        """
        if not reading.skipped:
            self.length = self._overflows = 0
            self.went_back_to = None
            return False
        self._overflows += reading.overflow
        if reading.overflow and self._overflows <= CALIBRATION_STEPS:
            return False
        if self.length == 0:
            self.first_step = reading.step
        self.length += 1
        return self._max is not None and self.length >= self._max

    def error(self, reading: Reading, where: str, ruined: Sequence[str] | None = ()) -> NonfiniteStreak:
        """The error that ends the run, with what is known and what to do.

        Args:
            reading: the last of the steps.
            where: its tensors that are non-finite.
            ruined: parameters that are no finite numbers by now; None where that isn't known.
        """
        weights = "All of them were skipped"
        if self.went_back_to is not None:
            weights = f"Going back to the weights of step {self.went_back_to} didn't help"
        elif ruined:
            weights = (
                f"All of them were skipped, but {listed(ruined)} {'holds' if len(ruined) == 1 else 'hold'} a NaN or an Inf "
                "by now: something else than the skipped steps wrote it, as the first half of a step in two halves does "
                "(SAM), a hook, or the loop itself"
            )
        elif ruined is not None:
            weights += ", and every weight is still a finite number"
        return NonfiniteStreak(
            f"stopped at step {reading.step}: {self.length} optimizer steps in a row had non-finite gradients, "
            f"the first at step {self.first_step}, {where}. {weights}. Skipping more would only hide the "
            "fault: look at the batch and the loss of that step (a NaN in the data, log or sqrt of 0, a division by 0, a rate too "
            "high), or pass max_consecutive_skips= to allow more."
        )
