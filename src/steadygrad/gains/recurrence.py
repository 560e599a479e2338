"""Is a module that is called again and again a cell in a loop, or only used for several inputs?

A cell's next input is computed from its last output; a shared encoder's isn't. The autograd graph knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

MOST_NODES = 3000
"""Autograd nodes looked at between two calls; the body of a loop has a few dozen."""

ASKED = 3
"""Calls after which the answer stands."""


@dataclass(slots=True)
class Loop:
    """What is known about one module's calls.

    Attributes:
        calls: how often it was called.
        fed_back: whether an input was computed from an earlier output.
        gated: whether a sigmoid and a product lay on the way, as in a gated cell.
    """

    calls: int = 0
    fed_back: bool = False
    gated: bool = False
    _outputs: set[Any] = field(default_factory=set)

    def entered(self, inputs: Iterable[Tensor]) -> None:
        """The module is called with these."""
        self.calls += 1
        if not self._outputs or self.fed_back or self.calls > ASKED:
            return
        found, between = reaches([tensor.grad_fn for tensor in inputs], self._outputs)
        self.fed_back = found
        self.gated = found and {"SigmoidBackward0", "MulBackward0"} <= between

    def left(self, outputs: Iterable[Tensor]) -> None:
        """The module returned these."""
        # The nodes are kept, not the tensors: an in-place activation gives the tensor another node.
        self._outputs = {tensor.grad_fn for tensor in outputs} if self.calls < ASKED else set()


def reaches(start: Iterable[Any], goals: set[Any]) -> tuple[bool, set[str]]:
    """Whether the graph leads from some node to a goal, nearest first, and the names of what lies between."""
    ahead = deque(node for node in start if node is not None)
    seen: set[Any] = set()
    names: set[str] = set()
    while ahead and len(seen) < MOST_NODES:
        node = ahead.popleft()
        if node in goals:
            return True, names
        if node in seen:
            continue
        seen.add(node)
        names.add(node.name())
        ahead.extend(following for following, _ in node.next_functions if following is not None)
    return False, names
