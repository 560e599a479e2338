"""Whether the targets of a binary cross-entropy leave its loss without a smallest value.

Single targets beyond 0 and 1 are no fault: soft labels of a GAN (0.7 to 1.2), a mask that was resized (-0.1 to 1.1), or a
-1 that stands for a missing label and is masked. Only a mean target beyond is: the loss then falls for ever as the output
grows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from steadygrad.detect.finding import make
from steadygrad.records import Finding, Remedy

# Fewer targets don't tell a mean from chance.
_FEWEST = 12
_MARGIN, _STANDARD_ERRORS = 1e-3, 4.0
_NONE = 0  # torch's number for reduction="none"
_NO_PROBABILITIES = "The targets are ratings, counts, or -1 and 1, and no probabilities of the second class."
_BETWEEN = Remedy("Bring the targets between 0 and 1", "targets = (targets - lowest) / (highest - lowest)")


def beyond_probabilities(node: Any, step: int) -> Finding | None:
    """What is wrong with the targets of a binary cross-entropy of logits, where that is sure.

    Args:
        node: its autograd node.
        step: the step that it belongs to.
    """
    try:
        # The script may mask what comes of each target, or has done so by a weight.
        if getattr(node, "_saved_reduction", _NONE) == _NONE or node._saved_weight is not None:  # noqa: SLF001
            return None
        target = node._saved_target  # noqa: SLF001 - only the node knows
    except (AttributeError, RuntimeError):  # it was changed in place since
        return None
    if target is None or target.numel() < _FEWEST:
        return None
    target = target.detach()
    low, high = (float(one) for one in target.aminmax())
    if not (low < 0.0 or high > 1.0):
        return None
    told = _of_mean(target) or _of_signs(target)
    if told is None:
        return None
    finding = make(
        "output_range_mismatch",
        "warning",
        step,
        f"binary_cross_entropy_with_logits expects targets from 0 to 1 and is given {low:.4g} to {high:.4g}: {told}.",
        evidence={"lowest target": low, "highest target": high},
    )
    causes, remedies = (_NO_PROBABILITIES, *finding.causes), (_BETWEEN, *finding.remedies)
    return replace(finding, causes=causes, remedies=remedies)


def _of_mean(target: Tensor) -> str | None:
    """What a mean target beyond 0 and 1 does, over all or of the class where it is furthest beyond; None where none is."""
    columns = [target.float().reshape(-1, 1)]
    if target.dim() > 1 and target.shape[1] > 1 and target.numel() >= _FEWEST * target.shape[1]:
        columns.append(target.float().transpose(1, -1).reshape(-1, target.shape[1]))
    for place, column in zip(("", " of a class"), columns, strict=False):
        mean, count = column.mean(0), len(column)
        # By chance the mean of a small batch of soft labels may lie beyond; where all of them do, none of it is chance.
        chance = column.std(0) * (_STANDARD_ERRORS / count**0.5)
        chance[(column.amin(0) >= 1.0) | (column.amax(0) <= 0.0)] = 0.0
        beyond = (mean - 1.0).maximum(-mean)
        worst = int((beyond - chance).argmax())
        if float(beyond[worst]) > max(_MARGIN, float(chance[worst])):
            return f"the mean target{place} is {float(mean[worst]):.4g}, and there the loss falls on as the output grows"
    return None


def _of_signs(target: Tensor) -> str | None:
    """What labels do that are -1 and 1, and nothing between."""
    if not bool((target.abs() == 1.0).all()):
        return None
    return "the targets are -1 and 1, and where the output can tell them apart, the loss falls on as it grows"
