"""Are the numbers of a state finite, and can Adam's two moments belong together?

``m = Σ (1-b1) b1^k g_k`` and ``v = Σ (1-b2) b2^k g_k²`` are made of the same gradients, so by Cauchy and
Schwarz ``m² <= C v`` with ``C = (1-b1)² / ((1-b2) (1 - b1²/b2))`` (7.3² for 0.9 and 0.999), whatever the
gradients were. Moments beyond it have been written to by something else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam, AdamW, NAdam, Optimizer, RAdam

from steadygrad.measure import HostNorms, LateReads, device_norms, own_part
from steadygrad.records import BoolArray, FloatArray
from steadygrad.recover.copies import tensors_of
from steadygrad.recover.state import Live
from steadygrad.recover.statistics import RunningStatistics

ROUNDING = 4.0
"""Times C: room for float32, and for betas that a schedule moves."""
BUFFER = "buffer"
"""Before the name of a buffer, in what is found ill."""
MOMENTS = "optimizer state of"
"""Before the name of a parameter, where it is what an optimizer keeps of it."""
_TINY = 1e-30
_CHUNK_NUMEL = 16_777_216
# The products of so many stay in a processor's cache: 2.8 million at once took 10 to 20 ms, in parts they take 3.
_HOST_CHUNK_NUMEL = 262_144
_FLOATS = (torch.float32, torch.float64)

Named = list[tuple[str, Tensor]]


class Inspection:
    """Looks through a state without waiting: the answer is there one step later from an accelerator.

    Args:
        late: the numbers live on an accelerator.
    """

    def __init__(self, *, late: bool) -> None:
        self._late = late
        self._reads: LateReads[tuple[Live, int]] = LateReads()
        self._answers: deque[list[str]] = deque()
        self._engines: dict[int, tuple[list[int], HostNorms]] = {}
        self._exempt: set[str] = set()
        self._statistics = RunningStatistics()

    def is_exempt(self, name: str) -> bool:
        """Whether this tensor was non-finite from the start."""
        return name in self._exempt

    def exempt_nonfinite(self, live: Live) -> list[str]:
        """What is non-finite from the start (a mask of -inf) is meant to be, or was ruined before; its names.

        What was so when this was asked before, and isn't any more, is exempt no longer.
        """
        self._exempt = set()
        found = self.nonfinite_now(live)
        self._exempt.update(found)
        return found

    def nonfinite_now(self, live: Live) -> list[str]:
        """Names of what is non-finite, looked at on the spot."""
        tensors = _tensors(live)
        if not tensors:
            return []
        return self._named(live, ~np.isfinite(self._norms(tensors).cpu().numpy()))

    def start(self, live: Live, optimizers: Sequence[Optimizer] = ()) -> None:
        """Begin to look.

        Args:
            live: the tensors.
            optimizers: those whose moments are to be compared.
        """
        tensors = _tensors(live)
        if not tensors:
            self._answers.append([])
            return
        excess = _excesses(optimizers)
        if not self._late:
            self._answers.append(self._answer(live, *self._host_numbers(tensors, excess)))
            return
        norms = device_norms(tensors)
        if excess:
            norms = torch.cat([norms, torch.stack([one.to(norms.device, norms.dtype) for one in excess])])
        self._reads.send(norms, (live, len(tensors)))

    def take(self) -> list[str] | None:
        """Names of what was found ill, empty where all is well; None while nothing has come back."""
        if self._answers:
            return self._answers.popleft()
        arrived = self._reads.take()
        if arrived is None:
            return None
        (live, count), numbers = arrived
        return self._answer(live, numbers[:count], numbers[count:])

    def _host_numbers(self, tensors: list[Tensor], excess: list[Tensor]) -> tuple[FloatArray, FloatArray]:
        norms, _ = self._engine(tensors)(tensors)
        above: FloatArray = torch.stack(excess).numpy() if excess else np.zeros(0, np.float32)
        return norms, above

    def _answer(self, live: Live, norms: FloatArray, excess: FloatArray) -> list[str]:
        ill = self._named(live, ~np.isfinite(norms))
        if not ill:
            names = [f"{BUFFER} {name}" for name, one in live.buffers.items() if _has_norm(own_part(one))]
            ill = self._statistics.jumped(names, norms[: len(names)])
        return ill if bool((excess <= 0.0).all()) else [*ill, "Adam's moments"]

    def _named(self, live: Live, ill: BoolArray) -> list[str]:
        if not ill.any():
            return []
        names = [name for name, _ in _all(live)]
        return [names[i] for i in np.flatnonzero(ill) if names[i] not in self._exempt]

    def _norms(self, tensors: list[Tensor]) -> Tensor:
        if self._late:
            return device_norms(tensors)
        return torch.from_numpy(self._engine(tensors)(tensors)[0])

    def _engine(self, tensors: list[Tensor]) -> HostNorms:
        sizes = [tensor.numel() for tensor in tensors]
        known = self._engines.get(len(tensors))
        if known is None or known[0] != sizes:
            known = self._engines[len(tensors)] = (sizes, HostNorms(tensors))
        return known[1]


def _tensors(live: Live) -> list[Tensor]:
    """Every tensor that can be non-finite, in the order of `_all`; of one that is cut this rank's part.

    Nobody else may be asked: the others look when it is time for them.
    """
    found = [*live.buffers.values(), *live.params.values()]
    for moments in live.moments:
        for entries in moments.values():
            found += _moment_tensors(entries)
    found += live.average.values()
    parts = [own_part(tensor.detach()) for tensor in found]
    return [part for part in parts if _has_norm(part)]


def _all(live: Live) -> Named:
    """The same with their names: only asked for when something is ill."""
    found = [(f"{BUFFER} {name}", tensor) for name, tensor in live.buffers.items()]
    found += list(live.params.items())
    names = {id(param): name for name, param in live.params.items()}
    for moments in live.moments:
        for param, entries in moments.items():
            owner = names.get(id(param), "an optimizer")
            found += [(f"{MOMENTS} {owner}", one) for one in _moment_tensors(entries)]
    found += [(f"average {name}", tensor) for name, tensor in live.average.items()]
    return [(name, tensor) for name, tensor in found if _has_norm(own_part(tensor.detach()))]


def _has_norm(tensor: Tensor) -> bool:
    """Of numbers of one byte torch takes no norm; such a tensor belongs to another one, which holds the scale."""
    return tensor.is_floating_point() and tensor.element_size() > 1 and tensor.numel() > 0


def _moment_tensors(entries: object) -> list[Tensor]:
    """The state's tensors but for step counters, which live on the host."""
    if isinstance(entries, Mapping):
        entries = [one for key, one in entries.items() if key != "step"]
    return tensors_of(entries)


def _excesses(optimizers: Sequence[Optimizer]) -> list[Tensor]:
    """Largest ``m² - C v`` of each parameter's moments, 0-d each; above 0 is impossible."""
    found: list[Tensor] = []
    for optimizer in optimizers:
        if type(optimizer) not in (Adam, AdamW, NAdam, RAdam):
            continue
        for group in optimizer.param_groups:
            limit = _cauchy(*group["betas"])
            if limit == float("inf"):
                continue
            for first, second in _chunks(_pairs(optimizer, group)):
                squared = torch._foreach_mul(first, first)
                bounds = torch._foreach_mul(second, limit)
                torch._foreach_add_(bounds, _TINY)
                torch._foreach_sub_(squared, bounds)
                found += [one.amax() for one in squared]
    return found


def _cauchy(beta1: float, beta2: float) -> float:
    if not 0.0 <= float(beta1) ** 2 < float(beta2) < 1.0:
        return float("inf")
    beta1, beta2 = float(beta1), float(beta2)
    return ROUNDING * (1.0 - beta1) ** 2 / ((1.0 - beta2) * (1.0 - beta1**2 / beta2))


def _pairs(optimizer: Optimizer, group: Mapping[str, object]) -> Iterator[tuple[Tensor, Tensor]]:
    params = group["params"]
    assert isinstance(params, list)
    for param in params:
        entries = optimizer.state.get(param, {})
        first, second = entries.get("exp_avg"), entries.get("exp_avg_sq")
        if not (isinstance(first, Tensor) and isinstance(second, Tensor) and first.dtype in _FLOATS):
            continue
        pair = own_part(first), own_part(second)
        if pair[0].numel():
            yield pair


def _chunks(pairs: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """A few tensors at a time: the products take memory."""
    first: list[Tensor] = []
    second: list[Tensor] = []
    numel = 0
    for one, other in pairs:
        limit = _HOST_CHUNK_NUMEL if one.device.type == "cpu" else _CHUNK_NUMEL
        if first and (numel + one.numel() > limit or one.dtype != first[0].dtype):
            yield first, second
            first, second, numel = [], [], 0
        first.append(one)
        second.append(other)
        numel += one.numel()
    if first:
        yield first, second
