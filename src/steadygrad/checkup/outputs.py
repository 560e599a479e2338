"""Does the output suit the loss? Asked by giving the loss other outputs, not by reading names.

Shape legend: N rows, C classes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from steadygrad.checkup.look import Look
from steadygrad.checkup.reach import is_target, reachable
from steadygrad.detect.finding import make
from steadygrad.records import Finding

_CLOSE = 1e-3
BOUNDED = {
    "SigmoidBackward0": ("a sigmoid", torch.sigmoid),
    "TanhBackward0": ("a tanh", torch.tanh),
    "ReluBackward0": ("a ReLU", torch.relu),
    "SoftplusBackward0": ("a softplus", torch.nn.functional.softplus),
    "HardtanhBackward0": ("a clamp", torch.nn.functional.hardtanh),
}
"""Last operations that bound the output, by their autograd node."""


def outputs(seen: Look) -> Iterator[Finding]:
    """Outputs that the loss can't use."""
    output = seen.output_tensor
    if output is None or seen.loss_fn is None or not torch.isfinite(output).all():
        return
    if _is_constant_one(seen, output):
        yield make(
            "single_class_softmax",
            "error",
            0,
            "The output is 1 for every input: a softmax over a single unit. Nothing can be learnt.",
            evidence={"output": 1.0, "units": 1.0},
        )
        return
    if _softmax_twice(seen, output) or _sigmoid_twice(seen, output):
        yield make(
            "double_softmax",
            "warning",
            0,
            "The output is probabilities already, and the loss turns its input into probabilities itself.",
            evidence={"lowest output": float(output.min()), "highest output": float(output.max())},
        )
        return
    if _logits_as_log_probabilities(seen, output):
        yield make(
            "output_range_mismatch",
            "warning",
            0,
            "The loss takes logarithms of probabilities, and the output's rows don't sum to 1: it can fall for ever.",
            evidence={"lowest output": float(output.min()), "highest output": float(output.max())},
        )
        return
    yield from _out_of_reach(seen, output)


def _value(seen: Look, output: Tensor) -> float:
    """The loss at another output; NaN where the loss function refuses it."""
    with contextlib.suppress(Exception), torch.no_grad():
        return float(seen.loss_at(output))
    return math.nan


def _is_constant_one(seen: Look, output: Tensor) -> bool:
    one = output.dim() > 0 and output.shape[-1] == 1 and bool((output == 1.0).all())
    return one and "Softmax" in seen.output_node


def _rows_are_probabilities(output: Tensor) -> bool:
    if output.dim() < 2 or output.shape[1] < 2:
        return False
    sums = output.float().sum(1)
    return bool((output >= 0).all() and (sums - 1).abs().max() < _CLOSE)


def _softmax_twice(seen: Look, output: Tensor) -> bool:
    """A loss that a constant added to each row doesn't change has a softmax inside."""
    if not _rows_are_probabilities(output):
        return False
    shifted = [_value(seen, output + by) for by in (1.0, -3.0)]
    return all(abs(value - seen.loss) <= _CLOSE * max(1.0, abs(seen.loss)) for value in shifted)


def _sigmoid_twice(seen: Look, output: Tensor) -> bool:
    """The logistic loss, and no other, has ``L(x) + L(-x) = x`` far from 0, whatever the labels."""
    if "Sigmoid" not in seen.output_node:
        return False
    for far in (40.0, 80.0):
        ends = _value(seen, torch.full_like(output, far)) + _value(seen, torch.full_like(output, -far))
        if not abs(ends - far) <= _CLOSE * far:
            return False
    return True


def _logits_as_log_probabilities(seen: Look, output: Tensor) -> bool:
    """``nll_loss`` falls by as much as is added to its input; log-probabilities can't be added to."""
    if output.dim() < 2 or output.shape[1] < 2:
        return False
    if float(output.float().logsumexp(1).abs().max()) < 10 * _CLOSE:
        return False
    return all(abs(_value(seen, output + by) - (seen.loss - by)) <= _CLOSE * abs(by) for by in (1.0, 50.0))


def _out_of_reach(seen: Look, output: Tensor) -> Iterator[Finding]:
    """A free output could do far better than one behind this last activation."""
    bound = BOUNDED.get(seen.output_node)
    if bound is None:
        return
    name, activation = bound
    start = seen.loss
    best = reachable(seen.loss_at, output)
    if not is_target(seen.loss_at, best):
        return
    free = best.loss
    # Not from 0, where a ReLU has no slope.
    held = reachable(lambda hidden: seen.loss_at(activation(hidden)), torch.full_like(output, 0.5)).loss
    if not (math.isfinite(free) and math.isfinite(held) and math.isfinite(start)):
        return
    if held - free > 0.1 * abs(start - free) and held > 2 * abs(free) + _CLOSE:
        yield make(
            "output_range_mismatch",
            "warning",
            0,
            f"The output ends in {name}: behind it the loss can't fall below {held:.3g}, a free output would reach "
            f"{free:.3g}. The targets lie outside of its range.",
            evidence={"best loss": held, "best loss of a free output": free, "loss now": start},
        )
