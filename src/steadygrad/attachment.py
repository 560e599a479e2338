"""`watch` and `guard`: check the call, see who is already there, attach a Monitor."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from steadygrad.errors import UsageError
from steadygrad.monitor import Monitor
from steadygrad.policies import Policy, auto
from steadygrad.stepping import check_max_consecutive
from steadygrad.usage import as_optimizers, check_model, check_shared

_attached: weakref.WeakKeyDictionary[Any, weakref.ref[Monitor]] = weakref.WeakKeyDictionary()


def watch(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    *,
    run: str | os.PathLike[str] | None = None,
    overhead: float = 0.02,
) -> Monitor:
    """Observe a training run; never change a number.

    Every optimizer step is measured (the gradient norm of each tensor), judged and, with ``run``,
    recorded. The loop stays as it was.

    Args:
        model: the module being trained; its names are used.
        optimizer: the optimizer whose steps to watch, or a list of them. None for a loop that
            updates parameters by hand: call ``monitor.clip_()`` there, which then only measures.
        run: path of the run file to write; None records nothing.
        overhead: share of the step time the occasional dearer measurements may help to fill.

    Returns:
        The monitor; the one already attached, if there is one.

    Raises:
        UsageError: nothing to watch: no parameters, all frozen, or none shared with the optimizer.
        RunFileError: ``run`` can't be written.

    Example:
        >>> import torch, steadygrad as sg
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with sg.watch(model, optimizer) as monitor:
        ...     model(torch.ones(2, 4)).sum().backward()
        ...     optimizer.step()
        ...     print(len(monitor.last.norms), round(monitor.last.total_norm, 3))
        2 4.472
    """
    return _attach("watch", model, optimizer, None, run, None, overhead)


def guard(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    *,
    policy: Policy | None = None,
    recover: None = None,
    run: str | os.PathLike[str] | None = None,
    max_consecutive_skips: int | None = 10,
    overhead: float = 0.02,
) -> Monitor:
    """Keep a training run alive: skip what is poisoned, hold back what is too large, say so.

    A step with a non-finite gradient is left out whole (weights, momentum, weight decay and step
    counters stay), counted and shown. What happens to finite gradients is the policy's business;
    the default, ``auto``, leaves a healthy run alone, bit for bit.

    Args:
        model: the module being trained; its names are used.
        optimizer: the optimizer whose steps to guard, or a list of them. None for a loop that
            updates parameters by hand: call ``guard.clip_()`` where ``clip_grad_norm_`` stood.
        policy: what to do with finite gradients; None is `steadygrad.policies.auto`. Each of
            several optimizers gets a copy of its own.
        recover: must be None; going back to an earlier state is not built yet.
        run: path of the run file to write; None records nothing.
        max_consecutive_skips: skipped steps in a row after which the run is stopped with an error
            that explains; None never stops. Ten is long enough for a run of bad batches and short
            enough that nobody finds out in the morning.
        overhead: share of the step time the occasional dearer measurements may help to fill.

    Returns:
        The guard; the one already attached, if there is one. A mere watch on the same optimizer is
        closed and replaced.

    Raises:
        UsageError: nothing to guard (no parameters, all frozen, none shared with the optimizer), or
            an argument out of range.
        RunFileError: ``run`` can't be written.

    Example:
        >>> import torch, steadygrad as sg
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> guard = sg.guard(model, optimizer, policy=sg.policies.clip_norm(1.0))
        >>> model(torch.ones(2, 4)).sum().backward()
        >>> optimizer.step()
        >>> round(guard.last.clip_coef, 3)
        0.224
        >>> guard.close()
    """
    if recover is not None:
        raise UsageError(f"guard(recover={recover!r}): only recover=None is supported in this version.")
    if policy is not None and not isinstance(policy, Policy):
        raise UsageError(
            f"guard(policy={policy!r}): expected a policy such as steadygrad.policies.clip_norm(1.0), got "
            f"{type(policy).__name__}."
        )
    check_max_consecutive(max_consecutive_skips)
    return _attach("guard", model, optimizer, policy or auto(), run, max_consecutive_skips, overhead)


def _attach(
    mode: str,
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer] | None,
    policy: Policy | None,
    run: str | os.PathLike[str] | None,
    max_skips: int | None,
    overhead: float,
) -> Monitor:
    check_model(mode, model)
    optimizers = as_optimizers(mode, optimizer)
    check_shared(mode, model, optimizers)
    if not 0.0 <= overhead <= 1.0:
        raise UsageError(f"{mode}(overhead={overhead!r}): expected a share of the step time between 0 and 1.")
    for target in optimizers or (model,):
        present = attached_to(target)
        if present is not None and (present.mode == "guard" or mode == "watch"):
            present.say(
                "attached", f"{mode}(): {present.mode} is already attached here; that one is returned"
            )
            return present
        if present is not None:
            present.close()
    monitor = Monitor(mode, model, optimizers, policy, run=run, max_skips=max_skips, overhead=overhead)
    for target in optimizers or (model,):
        _attached[target] = weakref.ref(monitor)
    return monitor


def attached_to(target: nn.Module | Optimizer) -> Monitor | None:
    """The open monitor of this optimizer (or of this model, in a loop without one)."""
    reference = _attached.get(target)
    monitor = reference() if reference is not None else None
    return None if monitor is None or monitor.closed else monitor
