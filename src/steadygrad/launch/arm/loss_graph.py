"""What the end of a loss's graph says of the wiring: whether the loss suits what the model gives it.

Read off the autograd nodes, without running anything: a softmax right below the log-softmax of a loss is one too
many, whatever the numbers are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from steadygrad.calling import node_behind
from steadygrad.detect.finding import make
from steadygrad.records import Finding

_MOST_NODES = 64
_TWICE = {
    "LogSoftmaxBackward0": ("SoftmaxBackward0", "a softmax"),
    "BinaryCrossEntropyWithLogitsBackward0": ("SigmoidBackward0", "a sigmoid"),
}
_NEGATIVE_LOG_LIKELIHOOD = ("NllLossBackward0", "NllLoss2DBackward0")
_NO_LOGARITHM = {
    "SoftmaxBackward0": "probabilities",
    "AddmmBackward0": "the output of a linear layer",
    "ConvolutionBackward0": "the output of a convolution",
}


def unsuited(roots: object, step: int) -> Finding | None:
    """What the loss and the output don't agree on, if anything.

    Args:
        roots: what a backward pass starts from; its graph must still be there.
        step: the step that it belongs to.

    Example:
        >>> import torch
        >>> from torch.nn import functional as F
        >>> output = torch.randn(4, 3, requires_grad=True)
        >>> unsuited(F.cross_entropy(output.softmax(1), torch.tensor([0, 1, 2, 0])), 0).kind
        'double_softmax'
    """
    for node in _from(roots):
        name, below = node.name(), node_behind(_first(node))
        fed_by = "" if below is None else below.name()
        twice, word = _TWICE.get(name, ("", ""))
        if fed_by and fed_by == twice:
            return make(
                "double_softmax",
                "warning",
                step,
                f"The output has been through {word} already, and the loss applies it again to its input.",
                evidence={"times": 2.0},
            )
        if name in _NEGATIVE_LOG_LIKELIHOOD and fed_by in _NO_LOGARITHM:
            return make(
                "output_range_mismatch",
                "warning",
                step,
                f"nll_loss expects logarithms of probabilities and is given {_NO_LOGARITHM[fed_by]}.",
            )
    return None


def _first(node: Any) -> Any:
    following = node.next_functions
    return following[0][0] if following else None


def _from(roots: object) -> Iterator[Any]:
    """The nodes nearest to the loss, nearest first."""
    tensors = roots if isinstance(roots, (list, tuple)) else [roots]
    waiting = deque(one.grad_fn for one in tensors if isinstance(one, Tensor) and one.grad_fn is not None)
    seen: set[Any] = set()
    while waiting and len(seen) < _MOST_NODES:
        node = waiting.popleft()
        if node in seen:
            continue
        seen.add(node)
        yield node
        waiting.extend(following for following, _ in node.next_functions if following is not None)
