"""Is everything connected: loss to parameters, parameters to optimizer."""

from __future__ import annotations

from collections.abc import Iterator

from steadygrad.checkup.look import Look
from steadygrad.detect.finding import listed, make
from steadygrad.records import Finding


def wiring(seen: Look) -> Iterator[Finding]:
    """What isn't connected."""
    trained = [name for name, param in seen.model.named_parameters() if param.requires_grad]
    got = [name for name in trained if seen.grads.get(name) is not None]
    if not got:
        yield make(
            "disconnected_loss",
            "error",
            0,
            f"None of the {len(trained)} parameters gets a gradient: nothing leads from the loss to the model.",
            where=trained,
            evidence={"parameters": len(trained)},
        )
        return
    yield from _cut_off(seen, [name for name in trained if name not in got])
    yield from _optimizer(seen, got)


def _cut_off(seen: Look, missing: list[str]) -> Iterator[Finding]:
    # A module that wasn't called may be another task's head; one that was called has lost its gradient.
    lost = [name for name in missing if name.rpartition(".")[0] in seen.called]
    unused = [name for name in missing if name not in lost]
    for names, severity, why in (
        (lost, "warning", "although their modules took part: something in between cuts the gradient off"),
        (unused, "info", "because their modules weren't called in this step"),
    ):
        if names:
            yield make(
                "disconnected_parameters",
                "warning" if severity == "warning" else "info",
                0,
                f"{len(names)} parameters get no gradient ({listed(names)}), {why}.",
                where=names,
                evidence={"count": len(names)},
            )


def _optimizer(seen: Look, got: list[str]) -> Iterator[Finding]:
    if seen.optimizer is None:
        return
    held = {id(param) for group in seen.optimizer.param_groups for param in group["params"]}
    params = dict(seen.model.named_parameters())
    own = {id(param) for param in params.values()}
    strangers = len(held - own)
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
            f"{len(left_out)} parameters get a gradient and no optimizer has them: {listed(left_out)}.",
            where=left_out,
            evidence={"count": len(left_out)},
        )
    frozen = [name for name, param in params.items() if not param.requires_grad and id(param) in held]
    if frozen:
        yield make(
            "disconnected_parameters",
            "info",
            0,
            f"The optimizer holds {len(frozen)} frozen parameters ({listed(frozen)}): they will not change.",
            where=frozen,
            evidence={"frozen": len(frozen)},
        )
