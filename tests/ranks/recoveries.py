"""Models over ranks that go back together: the check that every kind of sharding must pass."""

from __future__ import annotations

import math

import torch
from tests.ranks.worlds import batches, everywhere, own_rows, seeded, train_step

import steadygrad as sg

STEPS, FAULT_AT, EVERY = 26, 19, 4
COPIED_AT = 4
"""The copy of step 8 has not had its 12 clean steps when the fault comes."""


def whole(one):
    return (one.full_tensor() if hasattr(one, "full_tensor") else one).detach().clone()


def state(model, optimizer):
    """Weights and moments, put together from all ranks."""
    entries = [optimizer.state[one] for one in model.parameters()]
    moments = [entry[key] for entry in entries if entry for key in ("exp_avg", "exp_avg_sq")]
    return [whole(one) for one in [*model.parameters(), *moments]]


def alike(value):
    """Whether every rank holds the same, to the last bit."""
    return len({repr(one) for one in everywhere(value)}) == 1


def optimizer_of(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def single_process():
    """The state of one process after `COPIED_AT` steps on all rows."""
    model = seeded()
    optimizer = optimizer_of(model)
    for batch in batches(STEPS)[:COPIED_AT]:
        train_step(model, optimizer, batch)
    return state(model, optimizer)


def strike(model, value):
    """Write into one element of this rank's memory."""
    parts = [one.to_local() if hasattr(one, "to_local") else one for one in model.parameters()]
    with torch.no_grad():
        next(part for part in parts if part.numel() > 4).view(-1)[1] = value


def check_goes_back(model, index, of, *, struck, value=math.nan, peeks=False, monitored=sg.guard):
    """Weights are written to on one rank; all go back to what one process had at the step of the copy.

    Args:
        model: on this rank.
        index: which rows of a batch are this rank's.
        of: into how many parts a batch is cut.
        struck: whether it is this rank's memory.
        value: what is written.
        peeks: this rank asks the guard between its steps.
        monitored: makes the guard.
    """
    optimizer = optimizer_of(model)
    guard = monitored(model, optimizer, recover=sg.recover.rollback(every=EVERY))
    seen, back_at = [], None
    for step, batch in enumerate(batches(STEPS)):
        seen.append(state(model, optimizer))
        train_step(model, optimizer, own_rows(batch, index, of), guard)
        if peeks:
            assert guard.last is not None
        if step == FAULT_AT and struck:
            strike(model, value)
        if guard._rescue.rollbacks and back_at is None:
            back_at = step
            for now, then, theirs in zip(
                state(model, optimizer), seen[COPIED_AT], single_process(), strict=True
            ):
                assert torch.equal(now, then)
                torch.testing.assert_close(now, theirs, rtol=1e-4, atol=1e-6)
    told = [(one.norms.tolist(), one.clip_coef, one.skipped) for one in guard.recent]
    assert alike(told)
    assert alike((back_at, [one.tolist() for one in state(model, optimizer)]))
    assert guard._rescue.rollbacks == 1
    assert all(bool(torch.isfinite(one).all()) for one in state(model, optimizer))
    assert "switched off" not in guard.summary()
    assert guard._tracks[0].lane.ranks.calls == STEPS
    guard.close()
