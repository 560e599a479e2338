"""``check``: look at a training before it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from torch import nn
from torch.optim import Optimizer

from steadygrad.calling import LossFn
from steadygrad.checkup.broken import broken
from steadygrad.checkup.growth import growth
from steadygrad.checkup.look import Look, look
from steadygrad.checkup.outputs import outputs
from steadygrad.checkup.rate import rate
from steadygrad.checkup.remedies import Trials, try_all
from steadygrad.checkup.result import Checkup
from steadygrad.checkup.scales import scales
from steadygrad.checkup.units import units
from steadygrad.checkup.wiring import wiring
from steadygrad.errors import UsageError
from steadygrad.records import SEVERITIES, Finding

Check = Callable[[Look], Iterator[Finding]]

FOLLOWS: dict[str, frozenset[str]] = {
    "single_class_softmax": frozenset(
        {"dead_units", "vanishing_gradient", "stalled_update", "vanishing_in_time"}
    ),
    "dead_units": frozenset({"vanishing_gradient", "stalled_update", "output_range_mismatch"}),
    "unnormalised_input": frozenset(
        {"saturated_units", "learning_rate_too_high", "exploding_gradient", "dead_units"}
    ),
    "disconnected_parameters": frozenset({"vanishing_gradient"}),
    "exploding_gradient": frozenset({"learning_rate_too_high", "output_range_mismatch"}),
    "exploding_in_time": frozenset({"learning_rate_too_high", "exploding_gradient"}),
    "saturated_units": frozenset({"vanishing_gradient"}),
    "stale_optimizer": frozenset({"stalled_update", "disconnected_parameters"}),
}
"""What is only a consequence once its root has been found."""


def check(
    model: nn.Module, batch: object, loss_fn: LossFn | None = None, optimizer: Optimizer | None = None
) -> Checkup:
    """Look at one training step, and with an optimizer at a few on a copy, before training begins.

    Wiring, non-finite numbers, growth of the gradient over layers and time, dead and saturated units, input and
    output ranges, softmax twice or over one unit, the first loss against a constant guess, and the learning rate.
    Model, optimizer, gradients, buffers, modes and random states are left exactly as they were.

    Args:
        model: any module.
        batch: what the model takes: a tensor, a tuple or list (positional), a dict (keywords). Thirty rows say
            more than three.
        loss_fn: ``loss_fn(output)`` or ``loss_fn(output, batch)``; None for a model that returns its loss.
        optimizer: where given, its wiring and its rate are looked at too.

    Returns:
        The checkup; ``print`` it.

    Raises:
        UsageError: there is no module, or the loss is not one floating-point number.

    Example:
        >>> import torch, steadygrad as sg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> sg.check(model, torch.randn(32, 4), lambda out: out.square().mean()).ok
        True
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"check(model, ...): expected a torch.nn.Module, got {type(model).__name__}.")
    seen = look(model, batch, loss_fn, optimizer)
    findings, notes = _findings(seen)
    attempt: Callable[[int], Trials] | None = None
    if optimizer is not None:
        attempt = partial(try_all, model, batch, loss_fn, optimizer)
    return Checkup(_ranked(findings), seen.gains, seen.loss, tuple(notes), attempt)


def _findings(seen: Look) -> tuple[list[Finding], list[str]]:
    found, notes = _run((wiring, broken), seen)
    errors = {finding.kind for finding in found if finding.severity == "error"}
    if "disconnected_loss" in errors:
        return found, notes
    # Numbers that aren't finite would only be measured: what led there shows in the inputs' scale.
    checks: tuple[Check, ...] = (
        (scales,) if errors - {"stale_optimizer"} else (scales, growth, outputs, units, rate)
    )
    more, left = _run(checks, seen)
    return [*found, *more], [*notes, *left]


def _run(checks: tuple[Check, ...], seen: Look) -> tuple[list[Finding], list[str]]:
    found: list[Finding] = []
    notes: list[str] = []
    for one in checks:
        try:
            found += one(seen)
        except UsageError:  # noqa: PERF203 - five checks, once
            raise
        except Exception as fault:  # noqa: BLE001 - one check that can't cope must not cost the others
            notes.append(f"{one.__name__} ({type(fault).__name__}: {fault})")
    return found, notes


def _ranked(findings: list[Finding]) -> tuple[Finding, ...]:
    """Roots only, each kind once at its worst, the worst first; the order of the checks breaks ties."""
    kinds = {finding.kind for finding in findings if finding.severity != "info"}
    followers = {kind for root in kinds for kind in FOLLOWS.get(root, ())}
    kept = [finding for finding in findings if finding.kind not in followers or finding.severity == "info"]
    kept.sort(key=lambda finding: -SEVERITIES.index(finding.severity))
    once = {(finding.kind, finding.severity == "info"): finding for finding in reversed(kept)}
    return tuple(finding for finding in kept if once[finding.kind, finding.severity == "info"] is finding)
