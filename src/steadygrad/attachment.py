"""`watch` and `guard`: check the call, see who is already there, attach a Monitor."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from steadygrad.errors import UsageError
from steadygrad.monitor import Monitor
from steadygrad.policies import Policy, auto
from steadygrad.ranks import ReplicaGroup, ReplicaGroups, as_replica_groups
from steadygrad.recording import as_run_path
from steadygrad.recover import Rollback, as_rollback, possible
from steadygrad.stepping import check_max_consecutive
from steadygrad.usage import as_optimizers, check_model, check_overhead, check_policy, check_shared


@dataclass(frozen=True, slots=True)
class _Attachment:
    """Who is attached, and by what call; the same object for all its targets.

    Attributes:
        monitor: held weakly: the hooks of its optimizers keep it alive.
        policy: the policy that was asked for, written as the call that makes it.
        run: the run file that was asked for; a run already there has made it another.
        plan: how it goes back; None where it doesn't.
        groups: over which ranks tensors are replicated, where that was handed in.
        size: how many optimizers it is attached to, or one model.
    """

    monitor: weakref.ref[Monitor]
    mode: str
    policy: str
    run: Path | None
    plan: Rollback | None
    groups: ReplicaGroups | None
    size: int


_attached: weakref.WeakKeyDictionary[Any, _Attachment] = weakref.WeakKeyDictionary()


def watch(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    *,
    run: str | os.PathLike[str] | None = None,
    overhead: float = 0.02,
    replica_groups: Mapping[str, ReplicaGroup] | None = None,
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
        replica_groups: for ranks that hold *different* tensors (pipeline stages, experts): name pattern (as in
            ``fnmatch``, the first that matches counts) to the process group over which those tensors are replicated; a
            DeviceMesh or a list of ranks will do too. None stands for all ranks, as do tensors that no pattern matches;
            of a DTensor its own mesh decides. Every rank gives the same patterns, each with its own groups:
            ``{"experts.*": expert_data_group}``, or ``{"*": [torch.distributed.get_rank()]}`` for a stage that no other
            rank has. Without it ranks are known by DDP and DTensors.

    Returns:
        The monitor; the one already attached to just these optimizers, if there is one.

    Raises:
        UsageError: nothing to watch (no parameters, all frozen, or none shared with the optimizer),
            an argument out of range, or one of the optimizers is under another watch or guard.
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
    return _attach("watch", model, optimizer, None, run, None, overhead, groups=replica_groups)


def guard(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    *,
    policy: Policy | None = None,
    recover: Rollback | bool | None = None,
    run: str | os.PathLike[str] | None = None,
    max_consecutive_skips: int | None = 10,
    overhead: float = 0.02,
    replica_groups: Mapping[str, ReplicaGroup] | None = None,
) -> Monitor:
    """Keep a training run alive: skip what is poisoned, hold back what is too large, say so.

    A step with a non-finite gradient is left out whole (weights, momentum, weight decay and step
    counters stay; the next backward pass adds to nothing), counted and shown. What happens to finite gradients is the policy's business;
    the default, ``auto``, leaves a healthy run alone, bit for bit.

    Args:
        model: the module being trained; its names are used.
        optimizer: the optimizer whose steps to guard, or a list of them. None for a loop that
            updates parameters by hand: call ``guard.clip_()`` where ``clip_grad_norm_`` stood.
        policy: what to do with finite gradients; None is `steadygrad.policies.auto`. The guard works
            with a copy of its own, one for each of several optimizers: see ``guard.policy``.
        recover: whether to go back to the last good state when the present one is ruined (weights that
            are no finite numbers, a loss that has left its course), and change something; see
            `steadygrad.recover.rollback`, which also takes a scaler, a moving average and so on. True is
            ``rollback()``; False never goes back. None goes back too, where two copies of the state fit a
            quarter of the free host memory, and does without elsewhere. Several ranks must be given the same,
            and go back together. A healthy run is the same to the last bit whichever it is.
        run: path of the run file to write; None records nothing.
        max_consecutive_skips: skipped steps in a row after which the run is stopped with an error
            that explains; None never stops. Ten is long enough for a run of bad batches and short
            enough that nobody finds out in the morning.
        overhead: share of the step time the occasional dearer measurements may help to fill.
        replica_groups: for ranks that hold *different* tensors (pipeline stages, experts): name pattern (as in
            ``fnmatch``, the first that matches counts) to the process group over which those tensors are replicated; a
            DeviceMesh or a list of ranks will do too. None stands for all ranks, as do tensors that no pattern matches;
            of a DTensor its own mesh decides. Every rank gives the same patterns, each with its own groups:
            ``{"experts.*": expert_data_group}``, or ``{"*": [torch.distributed.get_rank()]}`` for a stage that no other
            rank has. Without it ranks are known by DDP and DTensors.

    Returns:
        The guard; the one already attached to just these optimizers, if there is one and no other
        policy, recovery or run is asked for. A mere watch on one of them is closed and replaced.

    Raises:
        UsageError: nothing to guard (no parameters, all frozen, none shared with the optimizer), an
            argument out of range, recovery asked for where it can't be had, or one of the optimizers has
            a guard already that this call would need to change.
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
    plan = as_rollback(recover)
    check_policy(policy)
    check_max_consecutive(max_consecutive_skips)
    return _attach(
        "guard", model, optimizer, policy, run, max_consecutive_skips, overhead, plan, replica_groups
    )


def _attach(
    mode: str,
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer] | None,
    policy: Policy | None,
    run: str | os.PathLike[str] | None,
    max_skips: int | None,
    overhead: float,
    plan: Rollback | None = None,
    groups: Mapping[str, ReplicaGroup] | None = None,
) -> Monitor:
    check_model(mode, model)
    optimizers = as_optimizers(mode, optimizer)
    check_shared(mode, model, optimizers)
    check_overhead(mode, overhead)
    path = None if run is None else as_run_path(mode, run).absolute()
    targets = optimizers or (model,)
    held = as_replica_groups(mode, groups)
    present = _present(targets, _Wish(mode, policy, path, plan, held))
    if present is not None:
        return present
    _close_watches(targets)
    # Two guards must not learn into one policy, and a second one begins with nothing learnt.
    own = None if mode == "watch" else auto() if policy is None else policy.fresh()
    plan = None if plan is None else possible(plan, model, optimizers)
    monitor = Monitor(
        mode,
        model,
        optimizers,
        own,
        run=run,
        max_skips=max_skips,
        overhead=overhead,
        recover=plan,
        replica_groups=held,
    )
    asked = "" if own is None else repr(own)
    kept = plan if monitor.recovers else None
    attachment = _Attachment(weakref.ref(monitor), mode, asked, path, kept, held, len(targets))
    for target in targets:
        _attached[target] = attachment
    return monitor


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a call asks for; None where it leaves the choice to whoever is there."""

    mode: str
    policy: Policy | None
    run: Path | None
    plan: Rollback | None
    groups: ReplicaGroups | None

    def unlike(self, there: _Attachment) -> str:
        """What of it the attached one would have to change; empty where it is content."""
        if self.policy is not None and repr(self.policy) != there.policy:
            return "with another policy"
        if self.mode == "guard" and not _content(self.plan, there.plan):
            return "and its recover= can't be changed"
        if self.groups not in {None, there.groups}:
            return "and its replica_groups= can't be changed"
        return "and its run= can't be changed" if self.run not in {None, there.run} else ""


def _content(asked: Rollback | None, there: Rollback | None) -> bool:
    if asked is None or there is None or asked.is_default:
        return asked is there or (asked is not None and asked.is_default)
    return asked == replace(there, is_default=False)


def _present(targets: Sequence[Any], wish: _Wish) -> Monitor | None:
    """The monitor that already does what is asked for; one that does something else is an error."""
    found = [one for target in targets if (one := _attachment_of(target)) is not None]
    if wish.mode == "guard":
        found = [one for one in found if one.mode == "guard"]
    if not found:
        return None
    first, monitor = found[0], found[0].monitor()
    whole = len(found) == len(targets) == first.size and all(one is first for one in found)
    what = wish.unlike(first) if whole else _other_optimizers(len(found), len(targets))
    if monitor is None or what:
        raise UsageError(
            f"{wish.mode}(): a {first.mode} is already attached here, {what}. Close that one first, with its close(); "
            f"where nobody holds it, steadygrad.{first.mode}(model, optimizer).close() with the same objects finds "
            "and closes it."
        )
    monitor.say("attached", f"{wish.mode}(): {monitor.mode} is already attached here; that one is returned")
    return monitor


def _close_watches(targets: Sequence[Any]) -> None:
    """Make way for a guard; what a new watch would meet here has been returned or refused."""
    for monitor in map(attached_to, targets):
        if monitor is not None and monitor.mode == "watch":
            monitor.detach()


def _other_optimizers(found: int, targets: int) -> str:
    if found < targets:
        return f"but only to {found} of these {targets} optimizers"
    return "together with other optimizers"


def attached_to(target: nn.Module | Optimizer) -> Monitor | None:
    """The open monitor of this optimizer (or of this model, in a loop without one)."""
    attachment = _attachment_of(target)
    return None if attachment is None else attachment.monitor()


def _attachment_of(target: nn.Module | Optimizer) -> _Attachment | None:
    attachment = _attached.get(target)
    monitor = None if attachment is None else attachment.monitor()
    return None if monitor is None or monitor.closed else attachment
