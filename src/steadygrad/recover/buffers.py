"""Buffers that a step has ruined, where nobody puts them back: training goes on without them, evaluation doesn't."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Collection

from torch import nn

from steadygrad.detect import nonfinite_buffers
from steadygrad.measure import own_part
from steadygrad.records import Finding, Reading
from steadygrad.recover.soundness import BUFFER, Inspection
from steadygrad.recover.state import Live
from steadygrad.recover.statistics import MEAN, VARIANCE
from steadygrad.tracing import has_nan

_MOST_LOOKS = 64
"""Each waits for the device, and a run that was ruined has nothing but such steps."""


class BufferWatch:
    """Looks through the buffers when it begins, and after steps that weren't finite until it has told.

    Args:
        model: held weakly.
        tell: receives what is found.
        late: the numbers live on an accelerator.
        guarded: a guard is attached.
    """

    def __init__(
        self, model: nn.Module, tell: Callable[[Finding], None], *, late: bool, guarded: bool
    ) -> None:
        self._model = weakref.ref(model)
        self._tell = tell
        self._guarded = guarded
        self._inspection = Inspection(late=late)
        self._looks = 0

    def begin(self, mended: Collection[str] = ()) -> None:
        """Look now. What holds an Inf may be a mask; a NaN, or what normalisation layers gather, is none.

        Args:
            mended: names of those that will be put back.
        """
        live = self._live()
        found = [name.removeprefix(f"{BUFFER} ") for name in self._inspection.exempt_nonfinite(live)]
        ill = [
            name
            for name in found
            if name.rpartition(".")[2] in {MEAN, VARIANCE} or has_nan(own_part(live.buffers[name].detach()))
        ]
        self._say(0, [name for name in ill if name not in mended])

    def stepped(self, reading: Reading) -> None:
        """A step has ended."""
        sound = math.isfinite(reading.total_norm) and not reading.skipped
        if sound or self._looks >= _MOST_LOOKS:
            return
        self._looks += 1
        found = self._inspection.nonfinite_now(self._live())
        self._say(reading.step, [name.removeprefix(f"{BUFFER} ") for name in found])

    def _say(self, step: int, names: list[str]) -> None:
        if names:
            self._looks = _MOST_LOOKS
            self._tell(nonfinite_buffers(step, names, guarded=self._guarded))

    def _live(self) -> Live:
        model = self._model()
        return Live({}, {} if model is None else dict(model.named_buffers()), [], {})
