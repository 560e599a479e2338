"""Running statistics of normalisation layers that jumped: finite, and useless for a long time.

A running variance moves by a tenth (``momentum``) of each batch's. Ten batches that make it a thousand times what
it was have inputs some thirty times as large as ever before; one batch, a hundred times. That is a broken batch,
or memory that was written to: training doesn't notice, since it uses the batch's own statistics, and evaluation is
worthless until it has faded, hundreds of steps later.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from steadygrad.records import FloatArray

JUMP = 1000.0
"""Times what it was ten steps before; a rate or a data set that changes makes it a few times as large."""
SETTLED = 5
"""Looks, ten steps apart, before that is judged: from 1, where it starts, it may have far to go."""
HUGE, FADES = 1e7, 0.7
"""Before, only one that is huge and fades: from one batch, or from none, since those of now are far smaller."""
AGAIN = 20
"""Looks within which a second jump shows that the data are like that now: then it stays."""
VARIANCE, MEAN = "running_var", "running_mean"
UNTRAINED = 8
"""Batches, gathered for one step perhaps, up to which a layer has its statistics from them alone; trained ones have thousands."""


def is_statistic(name: str) -> bool:
    """Whether a buffer of this name holds what a normalisation layer gathers."""
    return name.rpartition(".")[2] in {MEAN, VARIANCE}


def untrained(model: nn.Module) -> dict[str, Tensor]:
    """What running statistics that are non-finite were before the training, for layers that have seen its first batches alone.

    Whoever attaches after the first forward pass, as `steadygrad run` does, has no copy of them.

    Args:
        model: its normalisation layers are looked at.

    Returns:
        Values by the name of the buffer.
    """
    found: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        mean, variance, seen = (getattr(layer, one, None) for one in (MEAN, VARIANCE, "num_batches_tracked"))
        if not (isinstance(mean, Tensor) and isinstance(variance, Tensor) and isinstance(seen, Tensor)):
            continue
        if bool(torch.isfinite(mean).all() & torch.isfinite(variance).all()) or int(seen) > UNTRAINED:
            continue
        prefix = f"{name}." if name else ""
        found |= {f"{prefix}{MEAN}": torch.zeros_like(mean), f"{prefix}{VARIANCE}": torch.ones_like(variance)}
    return found


class RunningStatistics:
    """Compares each running variance with what it was at the look before."""

    def __init__(self) -> None:
        self._before: dict[str, float] = {}
        self._jumped: dict[str, int] = {}
        self._looks = 0

    def jumped(self, names: Sequence[str], norms: FloatArray) -> list[str]:
        """Names of statistics to put back: variances that jumped, and the means beside them.

        Args:
            names: of all buffers.
            norms: of each.
        """
        self._looks += 1
        present = set(names)
        found: list[str] = []
        for name, norm in zip(names, norms.tolist(), strict=True):
            if name.rpartition(".")[2] != VARIANCE:
                continue
            before = self._before.get(name, 0.0)
            leaps = 0.0 < JUMP * before < norm if self._looks > SETTLED else HUGE < norm < FADES * before
            if leaps and not self._is_new_level(name):
                mean = name.removesuffix(VARIANCE) + MEAN
                found += [name] + [mean] * (mean in present)
            else:
                self._before[name] = norm
        return found

    def _is_new_level(self, name: str) -> bool:
        last = self._jumped.get(name)
        self._jumped[name] = self._looks
        return last is not None and self._looks - last <= AGAIN
