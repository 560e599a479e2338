"""Detectors over the steps of one optimizer: what they look through at once, and what can wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch.optim import Optimizer

from steadygrad.containment import Containment
from steadygrad.detect import Context, Panel
from steadygrad.measure import heavy_ball, step_bound
from steadygrad.policies.base import Policy
from steadygrad.records import Finding, Reading, TensorInfo
from steadygrad.stepping.arrears import Arrears
from steadygrad.stepping.at_exit import settled_at_exit
from steadygrad.stepping.undo import moves_while_evaluating

AT_ONCE = 32
"""First steps, each looked through when it is made: what is wired wrongly shows there, and a short run ends there."""


class Lookout:
    """Has Readings looked through, those of plain steps a few at a time.

    Args:
        panel: the detectors.
        containment: holds back faults of theirs.
        tell: receives what is found.
        part: what a fault of theirs is a fault of.
    """

    def __init__(
        self,
        panel: Panel,
        containment: Containment,
        tell: Callable[[Finding], None],
        part: str = "detection",
    ) -> None:
        self._panel = panel
        self._part = part
        self._contained = containment.run
        self._tell = tell
        self._ended = False
        self._unseen = Arrears(self._look_through)
        settled_at_exit(self)

    def __del__(self) -> None:
        """A training that is collected in the middle of a script loses nothing either."""
        if getattr(self, "_unseen", None) is not None:
            # What is collected with it may have steps to tell yet, and nobody comes by after that.
            self._ended = True
            self._unseen.settle()

    @property
    def context(self) -> Context:
        """What the detectors know of the optimizer."""
        return self._panel.context

    def extend(self, added: Sequence[TensorInfo]) -> None:
        """Take note of parameters that have joined; what was seen before is of the others."""
        self.settle()
        self._contained(self._part, self._panel.extend, added)

    def take(self, reading: Reading, *, waits: bool) -> None:
        """Take in one step, after those before it.

        Args:
            reading: the step.
            waits: nothing in it calls for a look at once.
        """
        self._unseen.add(reading)
        if not waits or reading.step < AT_ONCE or self._ended:
            self._unseen.settle()

    def settle(self) -> None:
        """Look through what has waited."""
        self._unseen.settle()

    def _look_through(self, reading: Reading) -> None:
        for finding in self._contained(self._part, self._panel.observe, reading) or ():
            self._tell(finding)


def context_of(
    index: int, tensors: Sequence[TensorInfo], policy: Policy | None, optimizer: Optimizer | None
) -> Context:
    """What detectors may know of an optimizer, or of a loop that has none."""
    groups = () if optimizer is None else optimizer.param_groups
    # A subclass with a step of its own may make anything of a gradient before it hands it on.
    torchs = (
        getattr(type(optimizer).step, "__module__", "").startswith("torch.optim.") if optimizer else False
    )
    formula = groups if torchs else ()
    decay = [group.get("weight_decay", 0.0) for group in groups]
    return Context(
        tensors=tuple(tensors),
        mode="watch" if policy is None else "guard",
        policy="" if policy is None else repr(policy),
        policy_always_on=policy is not None and policy.always_on,
        optimizer=index,
        step_bound=step_bound(formula),
        weight_decay=max((one for one in decay if isinstance(one, (int, float))), default=0.0),
        momentum=heavy_ball(formula),
        own_step=optimizer is not None and not torchs,
        by_hand=optimizer is None,
        descends=optimizer is not None and moves_while_evaluating(optimizer),
    )
