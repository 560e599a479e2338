"""What a training is to do when its state is ruined: `rollback`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from steadygrad.errors import UsageError
from steadygrad.ranks import Apart, Peers, among_several
from steadygrad.recover.bundle_plan import Bundles

MAX_ROLLBACKS = 6
"""One to leave the batches behind, one under a cap, four with the rate down to 1/16: past that it is not the step."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """How to go back; made by `rollback`.

    Attributes:
        scaler: a ``GradScaler``, or None.
        schedulers: learning-rate schedulers.
        average: the module that holds the moving average of the weights, or None.
        loader: an object whose ``state_dict()`` tells the position in the data, or None.
        every: steps between two snapshots; None spaces them by what they cost.
        max_rollbacks: rollbacks in a row after which the run is stopped.
        max_bytes: most host memory for both snapshots.
        bundles: what is written down of an incident.
        is_default: nobody asked for it: where it can't be had, the run goes on without.
    """

    scaler: Any = None
    schedulers: tuple[Any, ...] = ()
    average: nn.Module | None = None
    loader: Any = None
    every: int | None = None
    max_rollbacks: int = MAX_ROLLBACKS
    max_bytes: int | None = None
    bundles: Bundles = field(default_factory=Bundles)
    is_default: bool = False


def rollback(
    *,
    scaler: Any = None,
    scheduler: Any = None,
    ema: Any = None,
    loader: Any = None,
    every: int | None = None,
    max_rollbacks: int = MAX_ROLLBACKS,
    max_bytes: int | None = None,
    bundles: Bundles | None = None,
) -> Rollback:
    """Go back to the last good state when the present one is ruined, and change something.

    Parameters, buffers, optimizer state, the policy's statistics and, where given, moving average and
    ``GradScaler`` are copied to host memory, before the first step and then as often as the guard's
    ``overhead`` allows. A copy is trusted only after 12 clean steps. The state counts as ruined when

    * a parameter or an optimizer's state is no finite number;
    * a weight has moved farther than its updates could carry it, or Adam's moments contradict each other
      (a flipped bit in memory);
    * a few steps in a row were skipped as non-finite, and it isn't the input that is;
    * the loss, where ``guard.log(loss=...)`` tells it, stays far above its course and won't be back sooner than
      going back would cost; comes there far more often than it used to; or was there for some steps and has stayed
      worse since. A single finite spike never counts. Where the losses after a rollback say that it hasn't helped,
      the weights from before are put back.

    Each rollback changes more than the one before: the batches since the copy are left behind; then
    gradients are capped at their usual norm; then the learning rate is halved for the steps to come, around
    ``optimizer.step`` and without the scheduler noticing. Cap and rate return geometrically while steps are
    clean. After ``max_rollbacks`` in a row the run stops and says why.

    The clock doesn't go back: scheduler, random generators and loader go on, since the loop does. They are
    part of the copy for `guard.save`.

    Args:
        scaler: the ``GradScaler`` in use.
        scheduler: a learning-rate scheduler, or several.
        ema: the moving average of the weights: a module, or an object with one as ``.module`` or ``.ema``.
        loader: an object with ``state_dict()`` that tells the position in the data.
        every: steps between two copies. By default their cost decides, which differs from run to run; a
            number makes a run with a rollback repeatable.
        max_rollbacks: rollbacks in a row after which the run is stopped.
        max_bytes: most host memory for the two copies; by default no limit. (The recovery that a guard
            brings by itself takes at most a quarter of the memory that is free.)
        bundles: what is written beside the run file when something goes wrong; see `bundles`.

    Returns:
        What ``sg.guard(..., recover=...)`` takes.

    Raises:
        UsageError: an argument can't be used.

    Example:
        >>> import torch, steadygrad as sg
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> guard = sg.guard(model, optimizer, recover=sg.recover.rollback(every=50))
        >>> guard.close()

    References:
        Chowdhery et al., PaLM, 2022, arXiv:2204.02311, sec. 5.1 (restart 100 steps earlier, with other
        batches); Lewkowycz et al., The large learning rate phase of deep learning: the catapult mechanism,
        2020, arXiv:2003.02218 (why one spike is none of our business).
    """
    _check_count("every", every)
    _check_count("max_rollbacks", max_rollbacks)
    _check_count("max_bytes", max_bytes)
    if loader is not None and not callable(getattr(loader, "state_dict", None)):
        raise UsageError(
            f"rollback(loader=...): expected an object with state_dict(), got {type(loader).__name__}. Leave it out: a "
            "rollback doesn't need it."
        )
    if bundles is not None and not isinstance(bundles, Bundles):
        raise UsageError(
            f"rollback(bundles={bundles!r}): expected sg.recover.bundles(...), got {type(bundles).__name__}."
        )
    return Rollback(
        scaler=scaler,
        schedulers=_schedulers(scheduler),
        average=None if ema is None else _module_of(ema),
        loader=loader,
        every=every,
        max_rollbacks=max_rollbacks,
        max_bytes=max_bytes,
        bundles=Bundles() if bundles is None else bundles,
    )


def as_rollback(recover: object) -> Rollback | None:
    """What ``guard(recover=...)`` was given, as a plan; None for no recovery."""
    if recover is False:
        return None
    if recover is None:
        return Rollback(is_default=True)
    if recover is True:
        return Rollback()
    if isinstance(recover, Rollback):
        return recover
    hint = " Did you mean recover=sg.recover.rollback()?" if recover is rollback else ""
    raise UsageError(
        f"guard(recover={recover!r}): expected True, False, None or sg.recover.rollback(...), got "
        f"{type(recover).__name__}.{hint}"
    )


def possible(plan: Rollback, model: nn.Module, optimizers: Sequence[Optimizer]) -> Rollback | None:
    """The plan where it can be carried out; None where it can't and nobody has asked for it.

    Raises:
        UsageError: it can't, and was asked for.
    """
    reason = _obstacle(model, optimizers)
    if not reason:
        return plan
    if plan.is_default:
        return None
    raise UsageError(f"guard(recover=...): {reason}. Leave recover out, or say recover=False.")


def in_words(plan: Rollback | None) -> str:
    """What was asked for, to be compared between ranks."""
    if plan is None:
        return "recover=False"
    if plan.is_default:
        return "no recover="
    numbers = [f"{name}={getattr(plan, name)}" for name in ("every", "max_rollbacks", "max_bytes")]
    given = [name for name in ("scaler", "schedulers", "average", "loader") if getattr(plan, name)]
    return f"recover=rollback({', '.join([*numbers, *given])})"


def among_ranks(plan: Rollback | None, met: Peers | Apart | None) -> Rollback | None:
    """The plan where every rank can carry it out; None where they can't and nobody has asked for it.

    Args:
        plan: what this rank was asked for.
        met: what came of meeting the other ranks.

    Raises:
        UsageError: the ranks were asked for different things; or they can't, and were asked to; or weights are cut over
            ranks some of which have no guard.
    """
    if isinstance(met, Apart) and met.conflict:
        raise UsageError(
            f"guard(recover=...): expected the same on every rank, got {met.reason}. All ranks go back together or none "
            "does: give each of them the same recover=."
        )
    if isinstance(met, Apart) and met.owns_parts and met.guards:
        raise UsageError(
            f"guard(): {met.reason}, and parameters are cut over the ranks (DTensors): the norm of a whole gradient takes all "
            "of them, and a clip or skip that one rank makes alone tears the model apart. Attach a guard on every rank, in "
            "the same place; watch() measures this rank's own parts."
        )
    if plan is None or isinstance(met, Peers) or not among_several():
        return plan
    if plan.is_default:
        return None
    why = (
        "several processes train, and the guard doesn't know how they belong together: the model is no "
        "DistributedDataParallel, its parameters are no DTensors, and no replica_groups= say over which ranks they are "
        "replicated"
        if met is None
        else met.reason
    )
    raise UsageError(f"guard(recover=...): {why}. Leave recover out, or say recover=False.")


def _obstacle(model: nn.Module, optimizers: Sequence[Optimizer]) -> str:
    if not optimizers:
        return "a loop without an optimizer updates its weights where nobody can see it, so it can't be turned back"
    if any(map(_is_shared, model.parameters())):
        return (
            "the weights lie in memory that other processes train too, and would be turned back for them all"
        )
    return ""


def _is_shared(param: nn.Parameter) -> bool:
    """Whether other processes see this memory; what is on an accelerator always says so."""
    has_shape = not bool(is_lazy(param))
    return has_shape and param.device.type == "cpu" and bool(param.is_shared())  # type: ignore[no-untyped-call]


def _schedulers(scheduler: Any) -> tuple[Any, ...]:
    if scheduler is None:
        return ()
    many = scheduler if isinstance(scheduler, Iterable) else [scheduler]
    found = tuple(many)
    for one in found:
        if not callable(getattr(one, "state_dict", None)):
            raise UsageError(
                f"rollback(scheduler=...): expected schedulers with state_dict(), got {type(one).__name__}."
            )
    return found


def _module_of(ema: Any) -> nn.Module:
    candidates = (ema, getattr(ema, "module", None), getattr(ema, "ema", None))
    for one in candidates:
        if isinstance(one, nn.Module):
            return one
    raise UsageError(
        f"rollback(ema=...): expected a module, or an object with one as .module or .ema, got {type(ema).__name__}."
    )


def _check_count(name: str, value: object) -> None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return
    raise UsageError(f"rollback({name}={value!r}): expected a whole number of at least 1.")
