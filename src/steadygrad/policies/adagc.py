"""`adagc`: clip each tensor against the running average of its own norm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadygrad.errors import PolicyError
from steadygrad.measure import Measurement
from steadygrad.policies.base import Policy, require_between, require_count, require_positive
from steadygrad.policies.clip_norm import clip_coef
from steadygrad.policies.history import Tally
from steadygrad.records import Incident, Reading

PATIENCE = 16
"""Steps in a row a tensor is scaled before its new level is believed: a spike is shorter."""

GAMMA_FLOOR = 1e-3
"""Smallest average believed, as a share of the median average of all tensors."""


class AdaGC(Policy):
    """Clip each tensor to a little above the running average of its norm; see `adagc`."""

    # With a threshold 5 % above the average, some tensor is scaled in nearly every step.
    always_on: ClassVar[bool] = True

    def __init__(
        self,
        relative_threshold: float = 1.05,
        beta: float = 0.98,
        warmup_steps: int = 100,
        warmup_max_norm: float = 1.0,
    ) -> None:
        self.relative_threshold = require_between(
            "adagc", "relative_threshold", relative_threshold, 1.0, 1000.0
        )
        self.beta = require_between("adagc", "beta", beta, 0.0, 0.9999)
        self.warmup_steps = require_count("adagc", "warmup_steps", warmup_steps, low=0)
        self.warmup_max_norm = require_positive("adagc", "warmup_max_norm", warmup_max_norm)
        self._gamma: NDArray[np.float64] = np.empty(0)  # Inf where the tensor had no gradient yet
        self._streak: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._streak_min: NDArray[np.float64] = np.empty(0)
        self._tally = Tally()
        self._set_cap()

    def scale(self, measurement: Measurement) -> Tensor:
        """A factor for each tensor ``[P]``; during the warm-up one for all, 0-d."""
        if self._in_warmup:
            return clip_coef(measurement.total_norm, self.warmup_max_norm)
        norms = measurement.norms
        self._fit(norms.shape[0])
        # Not blocking: the host hands its numbers over and goes on.
        max_norms = torch.from_numpy(self._max_norms()).to(norms.dtype).to(norms.device, non_blocking=True)
        factors = (max_norms / norms).clamp_(min=torch.finfo(norms.dtype).tiny)
        return torch.where(norms > max_norms, factors, torch.ones_like(norms))

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Move the averages; a tensor without gradient keeps its own."""
        norms = np.asarray(reading.norms, dtype=np.float64)
        if not (math.isfinite(reading.total_norm) and np.isfinite(norms).all()):
            return ()
        self._fit(len(norms))
        if self._in_warmup:
            np.minimum(self._gamma, norms, out=self._gamma, where=norms > 0.0)
        else:
            self._average(norms)
        self._tally.add(reading)
        self._set_cap()
        return ()

    def explain(self) -> str:
        """How many steps were scaled, and how many tensors have an average."""
        if not self._tally.seen:
            return ""
        known = int(np.isfinite(self._gamma).sum())
        return f"{self!r}: {self._tally} (at least one tensor); averages of {known} tensors."

    def state_dict(self) -> dict[str, Any]:
        """The averages, the streaks and the counts."""
        return {
            "gamma": self._gamma.tolist(),
            "streak": self._streak.tolist(),
            "streak_min": self._streak_min.tolist(),
            "tally": self._tally.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._gamma = np.array(state["gamma"], dtype=np.float64)
        self._streak = np.array(state["streak"], dtype=np.int64)
        self._streak_min = np.array(state["streak_min"], dtype=np.float64)
        self._tally.load_state_dict(state["tally"])
        self._set_cap()

    def __repr__(self) -> str:
        """The call that makes this policy."""
        return (
            f"adagc({self.relative_threshold!r}, beta={self.beta!r}, warmup_steps={self.warmup_steps!r}, "
            f"warmup_max_norm={self.warmup_max_norm!r})"
        )

    @property
    def _in_warmup(self) -> bool:
        return self._tally.seen < self.warmup_steps

    def _set_cap(self) -> None:
        self.cap = self.warmup_max_norm if self._in_warmup else None

    def _fit(self, count: int) -> None:
        """Make room for tensors that joined the optimizer since the last step."""
        joined = count - len(self._gamma)
        if joined < 0:
            raise PolicyError(
                f"adagc: holds averages of {len(self._gamma)} tensors, got {count}; "
                "load its state only into a run of the same model."
            )
        if joined:
            self._gamma = np.append(self._gamma, np.full(joined, np.inf))
            self._streak = np.append(self._streak, np.zeros(joined, dtype=np.int64))
            self._streak_min = np.append(self._streak_min, np.full(joined, np.inf))

    def _max_norms(self) -> NDArray[np.float64]:
        """Norm above which each tensor is scaled; Inf where nothing is known yet."""
        known = self._gamma[np.isfinite(self._gamma)]
        floor = GAMMA_FLOOR * float(np.median(known)) if known.size else 0.0
        return self.relative_threshold * np.maximum(self._gamma, floor)

    def _average(self, norms: NDArray[np.float64]) -> None:
        max_norms = self._max_norms()
        seen, over = norms > 0.0, norms > max_norms
        self._streak = np.where(over, self._streak + 1, np.where(seen, 0, self._streak))
        self._streak_min = np.where(
            over, np.minimum(self._streak_min, norms), np.where(seen, np.inf, self._streak_min)
        )
        previous = np.where(np.isfinite(self._gamma), self._gamma, norms)
        averaged = self.beta * previous + (1.0 - self.beta) * np.minimum(norms, max_norms)
        self._gamma = np.where(seen, averaged, self._gamma)
        self._reopen()

    def _reopen(self) -> None:
        """Believe the level of tensors that were scaled `PATIENCE` times in a row."""
        lasting = self._streak >= PATIENCE
        self._gamma[lasting] = np.maximum(self._gamma, self._streak_min)[lasting]
        self._streak[lasting] = 0
        self._streak_min[lasting] = np.inf


def adagc(
    relative_threshold: float = 1.05,
    beta: float = 0.98,
    warmup_steps: int = 100,
    warmup_max_norm: float = 1.0,
) -> AdaGC:
    """Clip each tensor to a little above the running average of its own norm.

    A spike in one tensor is cut there and leaves the others whole. Some tensor is scaled in nearly
    every step: the average is one of clipped norms and lies below the typical one.

        h_i = min(1, relative_threshold * gamma_i / ||g_i||);  g_i <- h_i g_i
        gamma_i <- beta * gamma_i + (1 - beta) * h_i ||g_i||

    In the warm-up all gradients are clipped together to ``warmup_max_norm``, and gamma_i is the
    smallest norm seen. Differs from the paper: (1) the average can grow by 0.1 % a step only, so
    after a tenfold rise it would throttle for 2,200 steps; here a tensor scaled 16 steps in a row
    takes the smallest of those norms as its average, which is then the lower end of the new level:
    of norms that scatter by 20 % half keep more than 80 % of their length. (2) No average lies below a thousandth of the
    median one, and zero norms don't count: a gamma of 0 would hold a zero-initialised or for a
    while frozen tensor for ever. (3) The warm-up takes raw norms, not clipped ones. (4) A tensor
    first seen after the warm-up is not scaled that once.

    Args:
        relative_threshold: how far above its average a norm may lie, 1 to 1000; 1.05 as in the paper.
        beta: smoothing factor of the average, 0 to 0.9999; 0.98 as in the paper.
        warmup_steps: finite steps of warm-up; 100 as in the paper; 0 leaves it out, and then nothing
            depends on the scale of the loss.
        warmup_max_norm: largest total norm in the warm-up; 1.0 as in the paper.

    Returns:
        The policy.

    Raises:
        PolicyError: an argument is out of its range.

    Example:
        >>> adagc(warmup_steps=0)
        adagc(1.05, beta=0.98, warmup_steps=0, warmup_max_norm=1.0)

    Source: Wang et al. 2025, arXiv 2502.11034, algorithm 1.
    """
    return AdaGC(relative_threshold, beta, warmup_steps, warmup_max_norm)
