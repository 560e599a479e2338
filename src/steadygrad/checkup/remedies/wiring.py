"""Remedies of what is connected wrongly."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import torch
from torch import Tensor

from steadygrad.checkup.rehearsal import Setup
from steadygrad.checkup.remedies.plan import Case, Plan
from steadygrad.records import Remedy

_LEAST = 1e-6


def wiring_plans(case: Case) -> Iterator[Plan]:
    """Optimizer, frozen parameters, sign, and a loss that doubles the last activation."""
    optimizer = case.seen.optimizer
    assert optimizer is not None
    name = type(optimizer).__name__
    params = list(case.seen.model.parameters())
    held = {id(param) for group in optimizer.param_groups for param in group["params"]}
    if held - {id(param) for param in params}:
        code = f"optimizer = torch.optim.{name}(model.parameters(), lr={optimizer.param_groups[0].get('lr', 0.0):.3g})"
        yield Plan(Remedy("Build the optimizer from the model as it is", code), "wiring", _rebuild)
    if any(id(param) in held and not param.requires_grad for param in params):
        yield Plan(Remedy("Unfreeze", "model.requires_grad_(True)"), "wiring", _unfreeze)
    if any(group.get("maximize") for group in optimizer.param_groups):
        yield Plan(Remedy("Descend", f"torch.optim.{name}(params, maximize=False)"), "wiring", _descend)
    if "double_softmax" in case.kinds:
        yield _probabilities(case)


def _rebuild(setup: Setup) -> None:
    kind = type(setup.optimizer)
    takes = inspect.signature(kind.__init__).parameters
    options = {name: value for name, value in setup.optimizer.defaults.items() if name in takes}
    setup.optimizer = kind(setup.model.parameters(), **options)


def _unfreeze(setup: Setup) -> None:
    setup.model.requires_grad_(True)


def _descend(setup: Setup) -> None:
    for group in setup.optimizer.param_groups:
        group["maximize"] = False


def _probabilities(case: Case) -> Plan:
    if "Sigmoid" in case.seen.output_node:
        remedy = Remedy(
            "Use the loss that takes probabilities", "functional.binary_cross_entropy(output, targets)"
        )
        return Plan(remedy, "wiring", lambda setup: setup.read.append(_logit))
    remedy = Remedy(
        "Use the loss that takes probabilities", "functional.nll_loss(output.clamp_min(1e-6).log(), targets)"
    )
    return Plan(remedy, "wiring", lambda setup: setup.read.append(_log))


def _logit(output: Tensor) -> Tensor:
    return torch.logit(output, eps=_LEAST)


def _log(output: Tensor) -> Tensor:
    return output.clamp_min(_LEAST).log()
