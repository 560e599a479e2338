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
from steadygrad.launch.arm.one_unit import is_over_one_unit
from steadygrad.launch.arm.target_range import beyond_probabilities
from steadygrad.records import Finding
from steadygrad.tracing import is_leaf

_MOST_NODES = 64
_MOST_PAST = 1024
_TWICE = {
    "LogSoftmaxBackward0": ("SoftmaxBackward0", "a softmax"),
    "BinaryCrossEntropyWithLogitsBackward0": ("SigmoidBackward0", "a sigmoid"),
}
# Rows that a script picks out of its output, as it does for the nodes of a graph that have a label.
_PICKING = ("IndexBackward", "IndexSelectBackward", "SliceBackward", "SelectBackward", "MaskedSelectBackward")
_BINARY = "BinaryCrossEntropyWithLogitsBackward0"
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
    alone = set(filter(is_over_one_unit, _from(roots, within_loss=True)))
    if alone and not _leads_past(roots, alone):
        return make(
            "single_class_softmax",
            "warning",
            step,
            "All that the loss knows of the output has been through a softmax over one number, which is always 1: nothing "
            "can be learnt.",
            evidence={"units": 1.0},
        )
    for node in _from(roots):
        name, below = node.name(), _source(_first(node))
        fed_by = "" if below is None else _written_out(below)
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
        if name == _BINARY and (beyond := beyond_probabilities(node, step)) is not None:
            return beyond
    return None


def _leads_past(roots: object, barriers: set[Any]) -> bool:
    """Whether a way leads from the loss to a parameter that goes through none of these; yes, where it is too far to see."""
    waiting: list[Any] = [one.grad_fn for one in _tensors(roots)]
    seen = set(barriers)
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if is_leaf(node) or len(seen) > _MOST_PAST:
            return True
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions)
    return False


def _tensors(roots: object) -> list[Tensor]:
    tensors = roots if isinstance(roots, (list, tuple)) else [roots]
    return [one for one in tensors if isinstance(one, Tensor) and one.grad_fn is not None]


def _written_out(node: Any) -> str:
    """The node's name; that of a softmax also where it is the exponential of a log-softmax."""
    name: str = node.name()
    below = _source(_first(node)) if name == "ExpBackward0" else None
    return "SoftmaxBackward0" if below is not None and below.name() == "LogSoftmaxBackward0" else name


def _source(node: Any) -> Any:
    """What made the numbers, behind what only gave them another shape or picked some of them."""
    while (behind := node_behind(node)) is not None and behind.name().startswith(_PICKING):
        node = _first(behind)
    return behind


def _first(node: Any) -> Any:
    following = node.next_functions
    return following[0][0] if following else None


def _from(roots: object, *, within_loss: bool = False) -> Iterator[Any]:
    """The nodes nearest to the loss, nearest first.

    Args:
        roots: where to begin.
        within_loss: leave out what lies behind the last layer that has a parameter.
    """
    waiting: deque[Any] = deque(one.grad_fn for one in _tensors(roots))
    seen: set[Any] = set()
    while waiting and len(seen) < _MOST_NODES:
        node = waiting.popleft()
        if node in seen:
            continue
        seen.add(node)
        yield node
        behind = [following for following, _ in node.next_functions if following is not None]
        if not within_loss or not any(is_leaf(node_behind(one)) for one in behind):
            waiting.extend(behind)
