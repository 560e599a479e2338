"""Buffers that a step has ruined, where nobody puts them back: training goes on without them, evaluation doesn't."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

from torch import nn
from torch.nn.parameter import is_lazy

from steadygrad.detect import nonfinite_buffers
from steadygrad.measure import own_part
from steadygrad.records import Finding, Reading
from steadygrad.recover.soundness import BUFFER, Inspection
from steadygrad.recover.state import Live
from steadygrad.recover.statistics import is_statistic, untrained
from steadygrad.tracing import has_nan

_MOST_LOOKS = 64
"""Each waits for the device, and a run that was ruined has nothing but such steps."""


class BufferWatch:
    """Looks through the buffers when it begins, and after steps that weren't finite until it has told.

    Running statistics that aren't finite are ruined. Of other buffers an Inf may be a mask, and before the first bad step
    a NaN may stand for what isn't set yet.

    Args:
        model: held weakly.
        tell: receives what is found.
        recovers: whether somebody puts back what a step ruins; asked each time, since recovery may end by itself.
        late: the numbers live on an accelerator.
        guarded: a guard is attached.
    """

    def __init__(
        self,
        model: nn.Module,
        tell: Callable[[Finding], None],
        recovers: Callable[[], bool],
        *,
        late: bool,
        guarded: bool,
    ) -> None:
        self._model = weakref.ref(model)
        self._tell = tell
        self._recovers = recovers
        self._guarded = guarded
        self._inspection = Inspection(late=late)
        self._looks = 0

    def begin(self) -> None:
        """Look now, at running statistics."""
        model = self._model()
        mended = untrained(model) if model is not None and self._recovers() else {}
        self._say(0, [name for name in self._nonfinite() if is_statistic(name) and name not in mended])

    def stepped(self, reading: Reading) -> None:
        """A step has ended."""
        sound = math.isfinite(reading.total_norm) and not reading.skipped
        if sound or self._looks >= _MOST_LOOKS or self._recovers():
            return
        self._looks += 1
        live = self._live().buffers
        ruined = [
            name for name in self._nonfinite() if is_statistic(name) or has_nan(own_part(live[name].detach()))
        ]
        self._say(reading.step, ruined)

    def _nonfinite(self) -> list[str]:
        return [name.removeprefix(f"{BUFFER} ") for name in self._inspection.nonfinite_now(self._live())]

    def _say(self, step: int, names: list[str]) -> None:
        if names:
            self._looks = _MOST_LOOKS
            self._tell(nonfinite_buffers(step, names, guarded=self._guarded))

    def _live(self) -> Live:
        model = self._model()
        named = () if model is None else model.named_buffers()
        return Live({}, {name: one for name, one in named if not is_lazy(one)}, [], {})
