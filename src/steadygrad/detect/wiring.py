"""Findings about the wiring that no Reading shows: the caller found the fact, the words are here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steadygrad.detect.finding import listed, make
from steadygrad.records import Finding


def stale_optimizer(
    step: int, held: Sequence[str], missing: Sequence[str], optimizer: int = 0, *, frozen: bool = False
) -> Finding:
    """The optimizer updates tensors that the model doesn't use.

    Args:
        step: step at which it was found.
        held: names of the tensors the optimizer holds and the model doesn't have
            (``group0.param3`` where there is no better one).
        missing: qualified names of the model's trainable parameters that the optimizer doesn't hold.
        optimizer: index of the optimizer.
        frozen: ``held`` are in the model, and frozen.

    Returns:
        An error-level finding; ``where`` holds ``missing``, or ``held`` where nothing is missing.

    Example:
        >>> stale_optimizer(0, ["group0.param0"], ["head.weight"]).where
        ('head.weight',)
    """
    fault = "are frozen" if frozen else "aren't in the model"
    summary = f"The optimizer holds {len(held)} tensors that {fault}"
    if missing:
        summary += f"; {len(missing)} parameters of the model are never updated: {listed(missing)}"
    return make(
        "stale_optimizer",
        "error",
        step,
        f"{summary}.",
        where=missing or held,
        evidence={"held": len(held), "missing": len(missing)},
        optimizer=optimizer,
    )


def missing_zero_grad(step: int, evidence: Mapping[str, float], optimizer: int = 0) -> Finding:
    """Gradients were carried from one step into the next.

    Args:
        step: step at which it began.
        evidence: the numbers; ``steps`` (steps in a row that began with the gradients of the step
            before) is told in the summary where it is given.
        optimizer: index of the optimizer.

    Returns:
        A warning-level finding.
    """
    steps = evidence.get("steps")
    span = f"{steps:.0f} steps in a row" if steps is not None else "a step"
    summary = f"The gradients weren't cleared before {span}: each backward pass adds to the ones before."
    return make("missing_zero_grad", "warning", step, summary, evidence=evidence, optimizer=optimizer)
