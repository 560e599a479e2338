"""The reproductions run again for their pictures: as they stand, or without their fault, with what is kept on the way."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from cures import CURES
from torch import Tensor, nn

REPRODUCTIONS = Path(__file__).parents[1] / "reproductions"


def reproduction(
    kind: str,
    *,
    cured: bool = False,
    keep: Mapping[str, str] | None = None,
    instead: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What a reproduction leaves behind.

    Args:
        kind: whose.
        cured: without its fault.
        keep: statement of the script -> expression whose value is kept each time after it, in ``kept``.
        instead: text of the script -> text in its place.
    """
    path = REPRODUCTIONS / f"{kind}.py"
    changes = dict([CURES[kind]] if cured else []) | dict(instead or {})
    changes |= {line: f"{line}; kept.append({expression})" for line, expression in (keep or {}).items()}
    text = path.read_text(encoding="utf-8")
    for before, after in changes.items():
        assert before in text, f"{path.name} has no {before!r} any more"
        text = text.replace(before, after, 1)
    left: dict[str, Any] = {"__name__": kind, "kept": []}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(text, str(path), "exec"), left)  # noqa: S102 - our own scripts
    for watched in (left.get("monitor"), left.get("guard")):
        if watched is not None:
            watched.close()
    return left


def both(kind: str, **changes: Any) -> dict[str, dict[str, Any]]:
    """What a reproduction leaves behind, and what it leaves without its fault."""
    return {
        "faulty": reproduction(kind, **changes),
        "cured": reproduction(kind, cured=True, **changes),
    }


def trained(
    model: nn.Module,
    loss_fn: Callable[[Tensor], Tensor],
    x: Tensor,
    optimizer: Callable[[Any], torch.optim.Optimizer],
    steps: int,
) -> list[float]:
    """Loss before each step of a training on one batch, and after the last; the model given stays as it was."""
    model = copy.deepcopy(model)
    stepper = optimizer(model.parameters())
    losses = []
    for _ in range(steps):
        loss = loss_fn(model(x))
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        losses.append(float(loss.detach()))
    return [*losses, float(loss_fn(model(x)).detach())]


def finding_of(left: Mapping[str, Any], kind: str) -> Any:
    """The finding that a reproduction is there for."""
    shown = left.get("monitor") or left.get("guard") or left["checkup"]
    return next(finding for finding in shown.findings if finding.kind == kind)
