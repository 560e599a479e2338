"""Pictures that need the numbers of every tensor: prepared now and then, by another thread, once for all tabs."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence

from steadygrad.report.page.sections import Draft, tensor_drafts
from steadygrad.runfile import Run
from steadygrad.runfile.following import DAMAGE

LEAST_S, SHARE = 5.0, 20.0
"""They are prepared at most every 5 s, and at most a twentieth of the time: a long run takes a second or two."""

Submit = Callable[[Callable[[], None]], object]


class TensorPictures:
    """The sections below the course, of one run.

    Args:
        submit: has work done by another thread, so that the course never waits.

    Attributes:
        drafts: as last prepared; None before the first time.
    """

    def __init__(self, submit: Submit) -> None:
        self.drafts: Sequence[Draft] | None = None
        self._submit = submit
        self._version, self._cost_s = -1, 0.0
        self._done_s = float("-inf")
        self._busy = False

    def first(self, run: Run, version: int) -> Sequence[Draft]:
        """What a page that opens begins with: as last prepared, at once where nothing is.

        Args:
            run: the run; it has steps.
            version: its version.

        Returns:
            The sections.

        Raises:
            Exception: one of `steadygrad.runfile.following.DAMAGE`, where the norms can't be unpacked.
        """
        if self.drafts is None:
            self.drafts, self._version = tensor_drafts(run, run.findings), version
            self._done_s = time.monotonic()
        return self.drafts

    def renew(self, run: Run, version: int) -> None:
        """Have them prepared, when it is time.

        Args:
            run: the run as last read.
            version: its version.
        """
        due = time.monotonic() - self._done_s >= max(LEAST_S, SHARE * self._cost_s) or run.finished
        if due and not self._busy and version != self._version:
            self._busy, self._version = True, version
            # A run as it is now: what is read from here on doesn't change this one.
            still = copy.copy(run)
            self._submit(lambda: self._prepare(still))

    def _prepare(self, run: Run) -> None:
        """The other thread's part."""
        begun = time.thread_time()
        try:
            self.drafts = tensor_drafts(run, run.findings)
        except DAMAGE:
            pass  # those of before stay; the page says what is the matter with the file
        finally:
            self._done_s = time.monotonic()
            self._cost_s, self._busy = time.thread_time() - begun, False
