"""A recorded run judged anew, by the detectors of today."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steadygrad.detect import Context, over
from steadygrad.records import BoolArray, Finding, FloatArray, Reading
from steadygrad.runfile import Run

_ROWS = 256
"""Rows read at a time: a run of 10,000 tensors and as many steps is 800 MB of norms."""


_ALWAYS_ON = ("adagc", "agc", "autoclip", "clip_value", "steady")
"""Policies that are meant to scale most steps; their classes, which say so, can't be imported here."""


def judge(run: Run) -> tuple[Finding, ...]:
    """Judge a run as it would have been judged live, from the numbers in its file.

    For a run recorded by an older steadygrad, or watched without a loss that was logged later. What
    isn't in the file can't be judged: where a non-finite number began (that takes a replay of the
    step), units and sequences (their signals are looked at live), the wiring. Old rows of a long run
    stand for several steps each and are judged as one.

    Args:
        run: the run.

    Returns:
        Findings of all optimizers by step.

    Example:
        >>> for finding in judge(steadygrad.open_run("runs/a.steady")):  # doctest: +SKIP
        ...     print(finding)
    """
    info = run.info
    found: list[Finding] = []
    for optimizer in range(max(len(info.optimizers), 1)):
        tensors = tuple(tensor for tensor in info.tensors if tensor.optimizer == optimizer)
        context = Context(
            tensors,
            mode="guard" if info.mode == "guard" else "watch",
            policy=info.policy,
            policy_always_on=any(f"{name}(" in info.policy for name in _ALWAYS_ON),
            optimizer=optimizer,
            by_hand=not info.optimizers,
            descends="LBFGS" in "".join(info.optimizers[optimizer : optimizer + 1]),
        )
        found += over(readings(run, optimizer), context)
    return tuple(sorted(found, key=lambda finding: finding.step))


def readings(run: Run, optimizer: int = 0) -> Iterator[Reading]:
    """The steps of one optimizer, as they were handed to the detectors.

    Args:
        run: the run.
        optimizer: index of the optimizer.

    Yields:
        One Reading for each row.
    """
    mine = np.array([tensor.optimizer == optimizer for tensor in run.info.tensors], np.bool_)
    names = [tensor.name for tensor in run.info.tensors if tensor.optimizer == optimizer]
    weights, updates = _sparse(run.param_norms, names), _sparse(run.update_norms, names)
    absent = np.array([np.packbits(run.absent(name)) for name in names])
    for start in range(0, run.steps.size, _ROWS):
        norms = run.norm_matrix(start, start + _ROWS)[:, mine]
        for row in np.flatnonzero(run.optimizer[start : start + _ROWS] == optimizer).tolist():
            at = start + row
            missing = (absent[:, at >> 3] >> (7 - (at & 7)) & 1).astype(np.bool_) if names else None
            known = Numbers(
                norms[row], missing, weights.get(int(run.steps[at])), updates.get(int(run.steps[at]))
            )
            yield _reading(run, at, known)


class Numbers(NamedTuple):
    """What one row says of each tensor ``[P]``."""

    norms: FloatArray
    absent: BoolArray | None
    param_norms: FloatArray | None
    update_norms: FloatArray | None


def _reading(run: Run, at: int, known: Numbers) -> Reading:
    cap = float(run.cap[at])
    return Reading(
        int(run.steps[at]),
        known.norms,
        float(run.total_norm[at]),
        absent=known.absent if known.absent is not None and known.absent.any() else None,
        clip_coef=float(run.clip_coef[at]),
        cap=None if np.isnan(cap) else cap,
        skipped=bool(run.skipped[at]),
        overflow=bool(run.overflow[at]),
        lr=float(run.lr[at]),
        lr_factor=float(run.lr_factor[at]),
        optimizer=int(run.optimizer[at]),
        loss=float(run.loss[at]) if run.loss_logged[at] else None,
        time_s=float(run.time_s[at]),
        param_norms=known.param_norms,
        update_norms=known.update_norms,
    )


def _sparse(read: Any, names: list[str]) -> dict[int, NDArray[np.float64]]:
    """Norms of all tensors by step, for the steps that measured them."""
    found: dict[int, NDArray[np.float64]] = {}
    for place, name in enumerate(names):
        steps, values = read(name)
        for step, value in zip(steps.tolist(), values.tolist(), strict=True):
            norms = found.setdefault(step, np.zeros(len(names)))
            # A step of the same number of another optimizer has zeros for these tensors.
            norms[place] = value if value != 0.0 else norms[place]
    return found
