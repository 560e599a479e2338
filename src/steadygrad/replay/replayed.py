"""A bundle replayed: does it reproduce, where does it begin, and what would each change have done?"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from steadygrad.calling import LossFn
from steadygrad.origin import Origin
from steadygrad.preserve import preserved
from steadygrad.replay.batch import Batch, batch_of
from steadygrad.replay.case import Case
from steadygrad.replay.change import AS_IT_WAS, NO_GUARD, Change
from steadygrad.replay.passes import Driver, backward, driver_of, forward
from steadygrad.replay.subject import Subject
from steadygrad.replay.trial import Bench, Outcome
from steadygrad.tracing.replay import instrumented, uncompiled

TOLERANCE = 1e-3
"""Relative difference up to which a number is reproduced: other threads and kernels sum in another order."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay found.

    Attributes:
        case: the bundle.
        outcomes: the step as it was first, then without a guard, then each change.
        origin: where the first non-finite number was made; None where all were finite.
        reproduced: whether loss and total norm came out as recorded.
        notes: what was not as in the run, for a person.
    """

    case: Case
    outcomes: tuple[Outcome, ...]
    origin: Origin | None
    reproduced: bool
    notes: tuple[str, ...]


def replay(
    case: Case,
    model: nn.Module,
    batch: object,
    loss_fn: LossFn | None,
    optimizer: Optimizer | None = None,
    *,
    changes: Sequence[Change] = (),
) -> Replayed:
    """Make the step of a bundle again, once for each change; model and optimizer are left as they were.

    Args:
        case: from `open_case`.
        model: the model of the run; its weights are replaced by the bundle's where that has any.
        batch: as for `steadygrad.check`: used where the bundle has none, and for its shape.
        loss_fn: as for `steadygrad.check`.
        optimizer: the optimizer of the run; None makes one like it.
        changes: what to try.

    Raises:
        UsageError: bundle and factory don't fit, or a change can't be asked of this optimizer.
    """
    model = uncompiled(model)
    with contextlib.ExitStack() as stack:
        stack.enter_context(preserved(model, loss_fn))
        subject = Subject(case, model, optimizer)
        stack.callback(subject.leave)
        found = batch_of(case, batch, next(model.parameters()).device)
        subject.reset()
        driver = driver_of(subject, found, loss_fn, case.step["loss_scale"])
        subject.reset()
        origin = _origin(subject, found, driver)
        rows = (origin.rows if origin else ()) or case.rows or found.nonfinite_rows()
        bench = Bench(case, subject, found, driver, rows)
        own = [Change(AS_IT_WAS), Change(NO_GUARD, guarded=False)]
        outcomes = tuple(bench.attempt(change) for change in [*own, *changes])
    reproduced = _is_same(case.total_norm, outcomes[0].total_norm) and (
        case.loss is None or driver.by_record or _is_same(case.loss, outcomes[0].loss)
    )
    return Replayed(case, outcomes, origin, reproduced, tuple(_notes(case, found, driver, subject)))


def _origin(subject: Subject, batch: Batch, driver: Driver) -> Origin | None:
    given = [(call.args, dict(call.kwargs)) for call in batch.calls]
    with instrumented(subject.model, given) as step:
        done = forward(subject, batch, driver)
        step.forward_ended()
        outputs = [one for outputs in done.outputs for one in outputs]
        found = step.broken_in(outputs if driver.by_record else [done.loss])
        if found is not None:
            return found
        return step.broken_in_gradients(lambda: backward(done, batch, driver))


def _notes(case: Case, batch: Batch, driver: Driver, subject: Subject) -> list[str]:
    notes = list(subject.notes)
    ahead = int(case.bundle.facts["steps_ahead"])
    if case.state is not None and ahead:
        steps = "step" if ahead == 1 else f"{ahead} steps"
        notes.append(
            f"The bundle's weights are those one {steps} later: numbers differ a little from the recorded."
        )
    if not batch.recorded:
        why = case.bundle.facts["batch_left_out"] or "it can't be read"
        notes.append(f"The bundle holds no batch ({why}): this is the factory's own.")
    if driver.by_record:
        notes.append(
            "The factory's loss function sees another target than the run's did (or there is more to the step than one "
            "call of the model): the gradients that came back in the run are used, and losses are only known by "
            "how much they change at least. recover=sg.recover.rollback(bundles=sg.recover.bundles(batch=...)) keeps the target."
        )
    return notes


def _is_same(recorded: float, found: float) -> bool:
    if not math.isfinite(recorded) or not math.isfinite(found):
        return math.isfinite(recorded) == math.isfinite(found)
    return abs(recorded - found) <= TOLERANCE * max(abs(recorded), abs(found))
