"""What an integration was asked to attach, kept until the trainer has built its optimizer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import nn
from torch.optim import Optimizer

from steadygrad.attachment import guard, watch
from steadygrad.errors import UsageError
from steadygrad.monitor import Monitor
from steadygrad.policies import Policy
from steadygrad.recording import as_run_path
from steadygrad.stepping import check_max_consecutive
from steadygrad.usage import check_overhead, check_policy

Mode = Literal["guard", "watch"]
MODES: tuple[Mode, ...] = ("guard", "watch")


def deepspeed_refused(call: str) -> UsageError:
    """What a training that DeepSpeed makes is told."""
    return UsageError(
        f"{call}(): DeepSpeed keeps gradients and optimizer in an engine of its own that calls no hooks, so nothing "
        "can be guarded here. What still works: gradient_clipping in its configuration, and "
        "steadygrad.check(model, batch, loss_fn) before the training."
    )


@dataclass(frozen=True, slots=True)
class Wish:
    """The arguments of `steadygrad.guard` or `steadygrad.watch`, checked before there is a model.

    Attributes:
        call: the user's call, for messages.
        mode: ``guard`` or ``watch``.
        policy: see `steadygrad.guard`.
        run: see `steadygrad.guard`.
        max_consecutive_skips: see `steadygrad.guard`.
        overhead: see `steadygrad.guard`.
    """

    call: str
    mode: Mode = "guard"
    policy: Policy | None = None
    run: str | os.PathLike[str] | None = None
    max_consecutive_skips: int | None = 10
    overhead: float = 0.02

    def __post_init__(self) -> None:
        """Refuse now what would fail hours later, when the training begins."""
        if self.mode not in MODES:
            raise UsageError(f"{self.call}(mode={self.mode!r}): expected 'guard' or 'watch'.")
        if self.mode == "watch" and self.policy is not None:
            raise UsageError(
                f"{self.call}(mode='watch', policy={self.policy!r}): a watch changes nothing, so it takes no policy. "
                "Leave one of the two out."
            )
        check_policy(self.policy)
        check_max_consecutive(self.max_consecutive_skips)
        check_overhead(self.call, self.overhead)
        if self.run is not None:
            as_run_path(self.call, self.run)

    def check_met_by(self, present: Wish) -> None:
        """Raise a UsageError if this asks for something else than what is there already."""
        for name in ("mode", "policy", "run"):
            mine, theirs = getattr(self, name), getattr(present, name)
            if repr(mine) != repr(theirs) and mine not in (None, "guard"):
                raise UsageError(
                    f"{self.call}({name}={mine!r}): already attached here with {name}={theirs!r}. Attach once, with "
                    "what you want."
                )

    def of_this_rank(self) -> Wish:
        """The same, with a run file of its own for each of several ranks."""
        if self.run is None or os.environ.get("WORLD_SIZE", "1") == "1":
            return self
        path, rank = Path(self.run), f".rank{os.environ.get('RANK', '0')}"
        return self if path.stem.endswith(rank) else replace(self, run=path.with_suffix(rank + path.suffix))

    def attach(self, model: nn.Module, optimizer: Optimizer | Iterable[Optimizer]) -> Monitor:
        """The monitor that was wished for."""
        if self.mode == "watch":
            return watch(model, optimizer, run=self.run, overhead=self.overhead)
        return guard(
            model,
            optimizer,
            policy=self.policy,
            run=self.run,
            max_consecutive_skips=self.max_consecutive_skips,
            overhead=self.overhead,
        )
