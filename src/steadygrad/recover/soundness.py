"""Are the numbers of a state finite, and can Adam's two moments belong together?

``m = Σ (1-b1) b1^k g_k`` and ``v = Σ (1-b2) b2^k g_k²`` are made of the same gradients, so by Cauchy and
Schwarz ``m² <= C v`` with ``C = (1-b1)² / ((1-b2) (1 - b1²/b2))`` (7.3² for 0.9 and 0.999), whatever the
gradients were. Moments beyond it have been written to by something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam, AdamW, NAdam, Optimizer, RAdam

from steadygrad.measure import HostNorms, LateReads, device_norms
from steadygrad.recover.copies import tensors_of
from steadygrad.recover.state import TrainingState

ROUNDING = 4.0
"""Times C: room for float32, and for betas that a schedule moves."""
_TINY = 1e-30
_CHUNK_NUMEL = 16_777_216
_FLOATS = (torch.float32, torch.float64)

Packet = tuple[tuple[str, ...], int]


class Inspection:
    """Looks through a state without waiting: the answer is there one step later from an accelerator.

    Args:
        state: what to look through.
        late: the numbers live on an accelerator.
    """

    def __init__(self, state: TrainingState, *, late: bool) -> None:
        self._state = state
        self._late = late
        self._reads: LateReads[Packet] = LateReads()
        self._engines: dict[int, tuple[list[int], HostNorms]] = {}
        self._exempt: set[str] = set()

    def is_exempt(self, name: str) -> bool:
        """Whether this tensor was non-finite from the start."""
        return name in self._exempt

    def exempt_nonfinite(self) -> None:
        """What is non-finite from the start (a mask of -inf) is meant to be."""
        self._exempt.update(self.nonfinite_now())

    def nonfinite_now(self, *, buffers_only: bool = False) -> list[str]:
        """Names of what is non-finite, looked at on the spot."""
        named = _named(self._state, buffers_only=buffers_only)
        norms = self._norms([tensor for _, tensor in named])
        bad = ~np.isfinite(norms.cpu().numpy())
        return [
            name for (name, _), is_bad in zip(named, bad, strict=True) if is_bad and name not in self._exempt
        ]

    def start(self, *, buffers_only: bool = False) -> None:
        """Begin to look."""
        named = _named(self._state, buffers_only=buffers_only)
        if not named:
            return
        norms = self._norms([tensor for _, tensor in named])
        excess, owners = ([], []) if buffers_only else _excesses(self._state.optimizers)
        parts = [norms.to(torch.float64)]
        if excess:
            parts.append(torch.stack([one.to(norms.device, torch.float64) for one in excess]))
        names = (*(name for name, _ in named), *owners)
        self._reads.send(torch.cat(parts), (names, len(named)))

    def take(self) -> list[str] | None:
        """Names of what was found ill, empty where all is well; None while nothing has come back."""
        arrived = self._reads.take()
        if arrived is None:
            return None
        (names, count), numbers = arrived
        ill = np.concatenate([~np.isfinite(numbers[:count]), ~(numbers[count:] <= 0.0)])
        return [names[i] for i in np.flatnonzero(ill) if names[i] not in self._exempt]

    def _norms(self, tensors: list[Tensor]) -> Tensor:
        if not tensors:
            return torch.zeros(0)
        if self._late:
            return device_norms(tensors)
        sizes = [tensor.numel() for tensor in tensors]
        known = self._engines.get(len(tensors))
        if known is None or known[0] != sizes:
            known = self._engines[len(tensors)] = (sizes, HostNorms(tensors))
        return torch.from_numpy(known[1](tensors)[0])


def _named(state: TrainingState, *, buffers_only: bool) -> list[tuple[str, Tensor]]:
    found = [(f"buffer {name}", tensor) for name, tensor in state.buffers().items()]
    if not buffers_only:
        params = state.params()
        names = {id(param): name for name, param in params.items()}
        found += list(params.items())
        for moments in state.moments():
            for param, entries in moments.items():
                owner = names.get(id(param), "an optimizer")
                found += [(f"optimizer state of {owner}", one) for one in _moment_tensors(entries)]
        found += [(f"average {name}", tensor) for name, tensor in state.average().items()]
    return [
        (name, tensor.detach()) for name, tensor in found if tensor.is_floating_point() and tensor.numel()
    ]


def _moment_tensors(entries: object) -> list[Tensor]:
    """The state's tensors but for step counters, which live on the host."""
    if isinstance(entries, Mapping):
        entries = [one for key, one in entries.items() if key != "step"]
    return tensors_of(entries)


def _excesses(optimizers: Sequence[Optimizer]) -> tuple[list[Tensor], list[str]]:
    """Largest ``m² - C v`` of each parameter's moments, 0-d each; above 0 is impossible."""
    found: list[Tensor] = []
    owners: list[str] = []
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
                found += [one.amax() for one in torch._foreach_sub(squared, bounds)]
                owners += ["Adam's moments"] * len(first)
    return found, owners


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
        if (
            isinstance(first, Tensor)
            and isinstance(second, Tensor)
            and first.dtype in _FLOATS
            and first.numel()
        ):
            yield first, second


def _chunks(pairs: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """A few tensors at a time: the products take memory."""
    first: list[Tensor] = []
    second: list[Tensor] = []
    numel = 0
    for one, other in pairs:
        if first and (numel + one.numel() > _CHUNK_NUMEL or one.dtype != first[0].dtype):
            yield first, second
            first, second, numel = [], [], 0
        first.append(one)
        second.append(other)
        numel += one.numel()
    if first:
        yield first, second
