"""``check``: look at a training before it begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

from torch import nn
from torch.optim import Optimizer

from steadygrad.calling import LossFn, device_hint
from steadygrad.checkup.broken import broken
from steadygrad.checkup.growth import growth, overflow
from steadygrad.checkup.look import Look, look, loss_again
from steadygrad.checkup.outputs import outputs
from steadygrad.checkup.precision import precision
from steadygrad.checkup.rate import first_steps, rate
from steadygrad.checkup.remedies import Trials, try_all
from steadygrad.checkup.result import Checkup
from steadygrad.checkup.sameness import sameness
from steadygrad.checkup.scales import scales
from steadygrad.checkup.sharp import sharp
from steadygrad.checkup.subject import subject
from steadygrad.checkup.target_scale import target_scale, tiny_targets
from steadygrad.checkup.underflow import underflow
from steadygrad.checkup.units import units
from steadygrad.checkup.wiring import wiring
from steadygrad.checkup.zero_start import awake
from steadygrad.errors import UsageError
from steadygrad.preserve import preserved
from steadygrad.records import SEVERITIES, Finding

Check = Callable[[Look], Iterator[Finding]]

FOLLOWS: dict[str, frozenset[str]] = {
    "single_class_softmax": frozenset(
        {"dead_units", "vanishing_gradient", "stalled_update", "vanishing_in_time"}
    ),
    "dead_units": frozenset(
        {"vanishing_gradient", "stalled_update", "output_range_mismatch", "constant_prediction"}
    ),
    "vanishing_gradient": frozenset({"stalled_update", "constant_prediction"}),
    "unnormalised_input": frozenset(
        {
            "saturated_units",
            "learning_rate_too_high",
            "exploding_gradient",
            "dead_units",
            "vanishing_gradient",
            "sharp_softmax",
        }
    ),
    "constant_input": frozenset(
        {"constant_prediction", "vanishing_gradient", "stalled_update", "dead_units", "saturated_units"}
    ),
    "constant_targets": frozenset({"constant_prediction", "learning_rate_too_high"}),
    "unscaled_targets": frozenset(
        {"exploding_gradient", "learning_rate_too_high", "stalled_update", "constant_prediction"}
    ),
    "sharp_softmax": frozenset({"learning_rate_too_high", "exploding_gradient", "vanishing_gradient"}),
    "output_range_mismatch": frozenset({"unscaled_targets", "constant_prediction"}),
    "constant_prediction": frozenset({"stalled_update"}),
    "vanishing_in_time": frozenset({"constant_prediction"}),
    "disconnected_parameters": frozenset({"vanishing_gradient"}),
    "exploding_gradient": frozenset({"learning_rate_too_high", "output_range_mismatch"}),
    "exploding_in_time": frozenset({"learning_rate_too_high", "exploding_gradient"}),
    "saturated_units": frozenset({"vanishing_gradient"}),
    "stale_optimizer": frozenset({"stalled_update", "disconnected_parameters"}),
    "divergence": frozenset({"learning_rate_too_high"}),
    "nonfinite_parameter": frozenset({"learning_rate_too_high"}),
}
"""What is only a consequence once its root has been found."""

SAME = 1e-4
"""Share by which two passes from one random state may differ: the order of additions, not the model."""


def check(
    model: nn.Module, batch: object, loss_fn: LossFn | None = None, optimizer: Optimizer | None = None
) -> Checkup:
    """Look at one training step, and with an optimizer at a few on a copy, before training begins.

    Wiring, non-finite numbers, growth of the gradient over layers and time, dead and saturated units, inputs and targets
    that are all alike or out of scale, softmax twice, over one unit or far too sure, the first loss against a constant
    guess, and the learning rate.
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
        UsageError: there is no module or nothing to train in it, the batch doesn't fit its ``forward`` or lies on
            another device, or the loss is not one floating-point number. What model and loss function raise
            themselves comes through.

    Example:
        >>> import torch, steadygrad as sg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> sg.check(model, torch.randn(32, 4), lambda out: out.square().mean()).ok
        True
    """
    plain, optimizer = subject(model, batch, loss_fn, optimizer)
    with preserved(plain, loss_fn):
        try:
            seen = look(plain, batch, loss_fn, optimizer)
        except RuntimeError as fault:
            hint = device_hint(plain, batch, fault)
            if not hint:
                raise
            raise UsageError(f"check(model, batch): {hint} ({fault})") from fault
        findings, notes = _findings(seen)
    attempt: Callable[[int], Trials] | None = None
    if optimizer is not None:
        attempt = partial(try_all, seen, [one.kind for one in findings if one.severity != "info"])
    return Checkup(_ranked(findings), seen.gains, seen.loss, tuple(notes), attempt)


def _findings(seen: Look) -> tuple[list[Finding], list[str]]:
    found, notes = _run((wiring, broken), seen)
    notes += _reproducible(seen)
    errors = {finding.kind for finding in found if finding.severity == "error"}
    if "disconnected_loss" in errors:
        return found, notes
    # Numbers that aren't finite would only be measured: what led there shows in the scale of inputs and signals.
    if errors - {"stale_optimizer"}:
        more, left = _run((scales, overflow), seen)
        return [*more, *found], [*notes, *left]
    twin = awake(seen.model)
    settled = seen if twin is None else look(twin, seen.batch, seen.loss_fn, None)
    more, left = _run((scales, sameness), seen)
    grown, missed = _run((growth,), settled)
    stuck, skipped = _run((units,), settled)
    last, rest = _run((sharp, underflow, outputs, precision, first_steps, target_scale, tiny_targets), seen)
    # More copies are trained only where what they would tell isn't a mere consequence.
    seen.explained = _explained([*found, *more, *grown, *stuck, *last])
    paced, missing = _run((rate,), seen)
    return (
        [*found, *more, *grown, *last, *paced, *stuck],
        [*notes, *left, *missed, *rest, *missing, *skipped],
    )


def _explained(findings: list[Finding]) -> frozenset[str]:
    """Kinds that would only follow from what was found."""
    roots = {one.kind: one.severity for one in findings if one.severity != "info"}
    follow = {kind for root in roots for kind in FOLLOWS.get(root, ())}
    # Where no gradient arrives, no rate is to blame, nor does a lower one help.
    hopeless = "vanishing_gradient" in roots or roots.get("dead_units") == "error"
    return frozenset(follow | ({"learning_rate_too_high"} if hopeless else set()))


def _reproducible(seen: Look) -> list[str]:
    again = loss_again(seen.model, seen.batch, seen.loss_fn)
    differs = abs(again - seen.loss) > SAME * max(abs(seen.loss), abs(again))
    if not differs or not math.isfinite(again + seen.loss):
        return []
    text = (
        f"the model isn't deterministic: two passes from the same random state gave {seen.loss:.6g} and {again:.6g}, "
        "so the numbers here are those of one pass"
    )
    return [text]


def _run(checks: tuple[Check, ...], seen: Look) -> tuple[list[Finding], list[str]]:
    found: list[Finding] = []
    notes: list[str] = []
    for one in checks:
        try:
            found += one(seen)
        except UsageError:  # noqa: PERF203 - five checks, once
            raise
        except Exception as fault:  # noqa: BLE001 - one check that can't cope must not cost the others
            notes.append(f"not checked: {one.__name__} ({type(fault).__name__}: {fault})")
    return found, notes


def _ranked(findings: list[Finding]) -> tuple[Finding, ...]:
    """Roots only, each kind once at its worst, the worst first; the order of the checks breaks ties."""
    kinds = {finding.kind for finding in findings if finding.severity != "info"}
    followers = {kind for root in kinds for kind in FOLLOWS.get(root, ())}
    kept = [finding for finding in findings if finding.kind not in followers or finding.severity == "info"]
    kept.sort(key=lambda finding: -SEVERITIES.index(finding.severity))
    once = {(finding.kind, finding.severity == "info"): finding for finding in reversed(kept)}
    return tuple(finding for finding in kept if once[finding.kind, finding.severity == "info"] is finding)
