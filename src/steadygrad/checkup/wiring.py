"""Is everything connected: loss to parameters, parameters to optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from steadygrad.checkup.look import Look, loss_again
from steadygrad.detect.finding import listed, make
from steadygrad.preserve import preserved
from steadygrad.records import Finding

_BOUND_SLACK = 1.001
_FILLED = 0.95


def wiring(seen: Look) -> Iterator[Finding]:
    """What isn't connected."""
    trained = [name for name, param in seen.model.named_parameters() if param.requires_grad]
    got = [name for name in trained if seen.grads.get(name) is not None]
    if not got:
        yield make(
            "disconnected_loss",
            "error",
            0,
            f"None of the {len(trained)} parameters gets a gradient: nothing leads from the loss to the model."
            if trained
            else "Every parameter is frozen (requires_grad=False): nothing can be trained.",
            where=trained,
            evidence={"parameters": len(trained)},
        )
        return
    yield from _unknown(seen)
    yield from _cut_off(seen, [name for name in trained if name not in got])
    yield from _optimizer(seen, got)


def _unknown(seen: Look) -> Iterator[Finding]:
    groups = [] if seen.optimizer is None else seen.optimizer.param_groups
    held = {id(param) for group in groups for param in group["params"]}
    unknown = [param for param in seen.unknown if id(param) not in held]
    if unknown:
        yield make(
            "disconnected_parameters",
            "warning",
            0,
            f"The output depends on {len(unknown)} parameters that model.parameters() doesn't list: layers in a plain "
            "list or dict, which nn.ModuleList and nn.ModuleDict are for.",
            evidence={"count": len(unknown)},
        )


def _cut_off(seen: Look, missing: list[str]) -> Iterator[Finding]:
    called = [name for name in missing if name.rpartition(".")[0] in seen.called]
    # A head whose output the loss doesn't read is called too; only a parameter that moves the loss is cut off.
    lost = called if called and _moves_the_loss(seen, called) else []
    unused = [name for name in missing if name not in lost]
    if lost:
        yield make(
            "disconnected_parameters",
            "warning",
            0,
            f"The loss depends on {len(lost)} parameters that get no gradient ({listed(lost)}): something in between "
            "cuts it off.",
            where=lost,
            evidence={"count": len(lost)},
        )
    if unused:
        yield make(
            "disconnected_parameters",
            "info",
            0,
            f"{len(unused)} parameters get no gradient ({listed(unused)}): this loss doesn't depend on them.",
            where=unused,
            evidence={"count": len(unused)},
        )


def _moves_the_loss(seen: Look, names: list[str]) -> bool:
    params = dict(seen.model.named_parameters())
    before = loss_again(seen.model, seen.batch, seen.loss_fn)
    generator = torch.Generator().manual_seed(0)
    with preserved(seen.model, weights=True):
        with torch.no_grad():
            for name in names:
                param = params[name]
                spread = float(param.float().std()) if param.numel() > 1 else 0.0
                noise = torch.randn(param.shape, generator=generator).to(param)
                param.add_(noise, alpha=0.1 * (spread or 1.0))
        after = loss_again(seen.model, seen.batch, seen.loss_fn)
    return after != before and not (math.isnan(after) and math.isnan(before))


def _optimizer(seen: Look, got: list[str]) -> Iterator[Finding]:
    if seen.optimizer is None:
        return
    held = {id(param) for group in seen.optimizer.param_groups for param in group["params"]}
    params = dict(seen.model.named_parameters())
    strangers = len(held - {id(param) for param in params.values()})
    left_out = [name for name in got if id(params[name]) not in held]
    if strangers and left_out:
        yield make(
            "stale_optimizer",
            "error",
            0,
            f"The optimizer holds {strangers} tensors that are not the model's, and not its {listed(left_out)}: "
            "they were replaced after it was made.",
            where=left_out,
            evidence={"strangers": strangers, "left_out": len(left_out)},
        )
    elif left_out:
        yield make(
            "disconnected_parameters",
            "warning",
            0,
            f"{len(left_out)} parameters get a gradient and the optimizer doesn't have them: {listed(left_out)}.",
            where=left_out,
            evidence={"count": len(left_out)},
        )
    yield from _frozen(params, {name for name, param in params.items() if id(param) in held})
    climbing = [group for group in seen.optimizer.param_groups if group.get("maximize")]
    if climbing:
        yield make(
            "divergence",
            "warning",
            0,
            "The optimizer was made with maximize=True: it climbs the loss.",
            evidence={"groups": len(climbing)},
        )


def _frozen(params: dict[str, nn.Parameter], held: set[str]) -> Iterator[Finding]:
    frozen = [name for name in params if name in held and not params[name].requires_grad]
    if not frozen:
        return
    # What was trained once is meant to stay; random numbers are not.
    random = [name for name in frozen if _looks_untrained(params[name].detach())]
    tail = f", {len(random)} of them still as torch initialised them" if random else ""
    yield make(
        "disconnected_parameters",
        "warning" if random else "info",
        0,
        f"{len(frozen)} parameters that the optimizer holds are frozen ({listed(random or frozen)}){tail}.",
        where=random or frozen,
        evidence={"frozen": len(frozen), "untrained": len(random)},
    )


def _looks_untrained(weight: Tensor) -> bool:
    """Whether a matrix fills ``U(-1/sqrt(fan_in), 1/sqrt(fan_in))`` to its bounds, as torch's layers start."""
    if weight.dim() < 2 or weight.numel() < 64:
        return False
    values = weight.double().flatten() * math.sqrt(weight[0].numel())
    largest, flatness = float(values.abs().max()), float(values.pow(4).mean() / values.square().mean() ** 2)
    # The kurtosis of a uniform distribution is 1.8, of a normal one 3.
    return _FILLED < largest < _BOUND_SLACK and 1.6 < flatness < 2.0
