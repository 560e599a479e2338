"""What a detector is: constants plus a pure function from (state, Reading) to (state, Finding).

Rules every detector keeps:

* pure: the same state, reading and context give the same answer, and the old state stays valid. So
  one and the same code judges a live run and a recorded one.
* bounded memory; arrays inside a state are never written to.
* cheap: it runs at every optimizer step. A healthy step costs a few comparisons of plain floats;
  work over all ``P`` tensors is done every few steps or when such a comparison raises suspicion.
* relative: multiplying every norm of the run by one number changes no finding.

States are NamedTuples, not frozen dataclasses: creating one is several times faster, and that is
most of what a healthy step costs.

Shape legend: P gradient tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from steadygrad.records import Finding, Reading, TensorInfo

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Context:
    """What a detector may know besides the Readings.

    Attributes:
        tensors: the parameters of one optimizer in the order of `Reading.norms`, ``[P]``.
        mode: ``watch`` or ``guard``.
        policy: the policy, written as the call that makes it; empty for ``watch``.
        policy_always_on: whether scaling most steps is what the policy is for.
        optimizer: index of the optimizer.
        step_bound: largest step of an element in learning rates, whatever the gradients; None where the
            optimizer's formula gives none, or a recorded run doesn't say.
        weight_decay: largest decay of the optimizer's groups, for the bound.
        momentum: heavy-ball momentum, where every group is SGD's and one has any; None otherwise.
        own_step: the optimizer's ``step`` isn't torch's; False where a recorded run doesn't say.
        by_hand: the loop updates its parameters itself, at a rate that nobody else knows.
        descends: one step is a whole descent of many evaluations (LBFGS), as long as its own estimates make it.
    """

    tensors: tuple[TensorInfo, ...]
    mode: Literal["watch", "guard"] = "watch"
    policy: str = ""
    policy_always_on: bool = False
    optimizer: int = 0
    step_bound: float | None = None
    weight_decay: float = 0.0
    momentum: float | None = None
    own_step: bool = False
    by_hand: bool = False
    descends: bool = False

    def name(self, index: int) -> str:
        """Qualified name of a tensor; a stand-in for one that was added and not announced yet."""
        return self.tensors[index].name if index < len(self.tensors) else f"parameter {index}"

    def trainable(self, index: int) -> bool:
        """Whether the tensor was to be trained; tensors not announced yet count as such."""
        return index >= len(self.tensors) or self.tensors[index].trainable


class Detector(Protocol[State]):
    """One kind of fault, looked for in a stream of Readings of one optimizer."""

    def start(self) -> State:
        """The state before the first reading."""
        ...

    def observe(self, state: State, reading: Reading, context: Context) -> tuple[State, Finding | None]:
        """Take in one reading; returns the next state and what there is to say, if anything."""
        ...
