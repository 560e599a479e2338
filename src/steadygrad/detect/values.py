"""NaN and Inf outside of the gradient: in the loss that was logged, and in the weights.

Shape legend: P gradient tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import listed, make
from steadygrad.records import Finding, Reading, Remedy

_GATHERED = "A normalisation layer has taken a batch with a NaN or an Inf into its running statistics, which keep it for good."
_PUT_BACK = (
    Remedy("Have them put back within the step, as a guard does that recovers", "sg.guard(model, optimizer)"),
)
_ANEW = (Remedy("Begin the layer's statistics anew", "layer.reset_running_stats()"), *_PUT_BACK)


@dataclass(frozen=True, slots=True)
class NonfiniteLoss:
    """The loss is a NaN or an Inf while the gradient is finite, or isn't there.

    Where the gradient is non-finite too, the finding about it tells the step; two would say the same. A step that a
    loss scaler has left out has none: there a NaN is told, which no scale makes, and an Inf isn't, which may be a loss
    that was logged with its scale.
    The state is the length of the streak of non-finite losses: only its first is told.
    """

    def start(self) -> int:
        """No loss yet."""
        return 0

    def observe(self, state: int, reading: Reading, context: Context) -> tuple[int, Finding | None]:
        """Look at the loss of one reading."""
        loss = reading.loss
        if loss is None:
            return state, None
        if math.isfinite(loss):
            return 0, None
        told = math.isnan(loss) if reading.overflow else math.isfinite(reading.total_norm)
        if state or not told:
            return (state if reading.overflow else state + 1), None
        return 1, make(
            "nonfinite_loss",
            "error",
            reading.step,
            _of_loss(reading, loss),
            evidence={"total_norm": reading.total_norm},
            optimizer=context.optimizer,
            guarded=context.mode == "guard",
        )


def _of_loss(reading: Reading, loss: float) -> str:
    if reading.overflow:
        return "The loss is NaN in a step that the loss scaler left out: no scale is to blame."
    name = "NaN" if math.isnan(loss) else "Inf"
    gradient = "all gradients are 0" if reading.total_norm == 0.0 else "the gradient is finite"
    return (
        f"The loss is {name} although {gradient}: it was made after the model's output, in a step that a gradient "
        "scaler left out, or only in what was logged."
    )


@dataclass(frozen=True, slots=True)
class NonfiniteParameter:
    """A weight is no finite number any more; seen on the steps that measure the weights.

    The state is how many tensors were ruined when it was last told: more of them are news.
    """

    def start(self) -> int:
        """Nothing ruined yet."""
        return 0

    def observe(self, state: int, reading: Reading, context: Context) -> tuple[int, Finding | None]:
        """Look at the norms of the parameters, where the reading has them."""
        if reading.param_norms is None:
            return state, None
        bad = np.flatnonzero(~np.isfinite(reading.param_norms)).tolist()
        if len(bad) <= state:
            return len(bad), None
        names = [context.name(i) for i in bad]
        return len(bad), nonfinite_parameter(
            reading.step, names, reading.param_norms.size, context.optimizer, guarded=context.mode == "guard"
        )


def nonfinite_parameter(
    step: int, names: Sequence[str], of: int, optimizer: int = 0, *, guarded: bool = False
) -> Finding:
    """Weights that hold a NaN or an Inf.

    Args:
        step: the step at which they were looked at.
        names: the ruined ones.
        of: how many there are in all.
        optimizer: index of the optimizer.
        guarded: a guard is attached already.

    Returns:
        An error-level finding.

    Example:
        >>> print(nonfinite_parameter(0, ["head.weight"], 4))
        error: nonfinite_parameter at step 0: 1 of 4 weights hold a NaN or an Inf: head.weight.
    """
    return make(
        "nonfinite_parameter",
        "error",
        step,
        f"{len(names)} of {of} weights hold a NaN or an Inf: {listed(names)}.",
        where=names,
        evidence={"count": len(names), "share": len(names) / max(of, 1)},
        optimizer=optimizer,
        guarded=guarded,
    )


def nonfinite_buffers(step: int, names: Sequence[str], *, guarded: bool = False) -> Finding:
    """Buffers that hold a NaN or an Inf, like the running statistics that a broken batch has gone into.

    Args:
        step: the step at which they were looked at.
        names: the ruined ones.
        guarded: a guard is attached already.

    Returns:
        An error-level finding.

    Example:
        >>> nonfinite_buffers(3, ["bn.running_mean"]).summary
        'bn.running_mean: a NaN or an Inf in what the model keeps besides its weights; evaluation is broken from here on.'
    """
    finding = make(
        "nonfinite_parameter",
        "error",
        step,
        f"{listed(names)}: a NaN or an Inf in what the model keeps besides its weights; evaluation is broken from here on.",
        where=names,
        evidence={"count": len(names)},
        guarded=guarded,
    )
    gathered = any(name.rpartition(".")[2].startswith("running_") for name in names)
    causes = (_GATHERED, *finding.causes) if gathered else finding.causes
    remedies = (*_ANEW, *finding.remedies) if gathered else (*_PUT_BACK, *finding.remedies)
    return replace(finding, causes=causes, remedies=remedies)
