"""A non-finite step of an optimizer that somebody has written: left out as whole as one of torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from tests.monitor.own_steps import OWN, SAM, Clearing, Decaying, Plain, Unchecking
from tests.monitor.workloads import (
    OPTIMIZERS,
    attach,
    batches,
    bits,
    closure_of,
    loss_of,
    mlp,
    outcome,
    poisoned,
    seeded,
    train,
    weights,
)

from steadygrad.errors import NonfiniteStreak
from steadygrad.policies import clip_norm

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


def whole(model, optimizer):
    """Weights, and all that the optimizer holds."""
    held = {name: one for name, one in vars(optimizer).items() if not name.endswith("_hooks")}
    states = [bits(list(one.state.values())) for one in (optimizer, held.pop("base", optimizer))]
    names = ("t", "total", "history", "late", "param_groups")
    return weights(model), states, {name: bits(held[name]) for name in names if name in held}


def stepped(model, optimizer, batch, *, way):
    if way == "closure":
        optimizer.step(closure_of(model, optimizer, batch))
        return
    if way == "cleared":
        optimizer.zero_grad()
    loss_of(model, batch).backward()
    optimizer.step()


def trained(name, stream, way, *, late=None):
    model = seeded(mlp)
    optimizer = OWN[name](model.parameters())
    guard = None if late is None else attach("guard", model, optimizer, clip_norm(1e9), late=late)
    for batch in stream:
        stepped(model, optimizer, batch, way=way)
    return whole(model, optimizer), guard


@both_paths
@pytest.mark.parametrize("way", ["cleared", "closure"])
@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("name", OWN)
def test_training_equals_one_in_which_the_batch_never_existed(name, at, way, late):
    stream = batches(6)
    bad = [poisoned(stream[at]), poisoned(stream[at], math.inf)]
    plain, _ = trained(name, stream, way)
    guarded, guard = trained(name, [*stream[:at], *bad, *stream[at:]], way, late=late)
    assert guarded == plain
    assert guard.last is not None
    assert guard.counts.skipped == 2
    assert not guard._logbook.faults


@both_paths
@pytest.mark.parametrize("name", ["Clearing", "Nulling"])
def test_one_whose_step_clears_its_gradients_goes_on(name, late):
    stream = batches(8)
    plain, _ = trained(name, stream, "never cleared")
    guarded, guard = trained(
        name, [*stream[:4], poisoned(stream[4]), *stream[4:]], "never cleared", late=late
    )
    assert guarded == plain
    assert guard.last is not None
    assert guard.counts.skipped == 1


@both_paths
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_hook_of_the_loop_that_clears_them_before_ours_comes_goes_on(name, late):
    model = seeded(mlp)
    optimizer = OPTIMIZERS[name](model.parameters())
    optimizer.register_step_post_hook(lambda one, *_: one.zero_grad())
    guard = attach("guard", model, optimizer, late=late)
    stream = batches(8)
    for batch in [*stream[:4], poisoned(stream[4]), *stream[4:]]:
        stepped(model, optimizer, batch, way="never cleared")
    assert guard.last is not None
    assert guard.counts.skipped == 1


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", OWN)
def test_one_judged_early_in_a_call_of_clip_is_left_out_as_whole(name, scaled):
    model = seeded(mlp)
    optimizer = OWN[name](model.parameters())
    guard = attach("guard", model, optimizer, clip_norm(1e9))
    scaler = torch.amp.GradScaler("cpu", enabled=scaled)
    for i, batch in enumerate(batches(6)):
        before = whole(model, optimizer)
        optimizer.zero_grad()
        scaler.scale(loss_of(model, poisoned(batch) if i == 3 else batch)).backward()
        scaler.unscale_(optimizer)
        guard.clip_()
        scaler.step(optimizer)
        scaler.update()
        assert (whole(model, optimizer) == before) == (i == 3)
    assert guard.counts.skipped == 1
    assert not guard._logbook.faults


@pytest.mark.parametrize("way", ["cleared", "closure"])
def test_where_other_ranks_take_part_it_is_left_out_without_gradients(way):
    model = seeded(mlp)
    optimizer = Decaying(model.parameters())
    guard = attach("guard", model, optimizer, clip_norm(1e9))
    guard._tracks[0].lane.own_parts()
    stepped(model, optimizer, batches(1)[0], way=way)
    before = [param.detach() * 0.99 for param in model.parameters()]  # what it does to one that has none
    stepped(model, optimizer, poisoned(batches(1)[0]), way=way)
    assert all(map(torch.equal, before, model.parameters()))
    assert all(param.grad.isnan().any() for param in model.parameters())
    assert guard.counts.skipped == 1


class Breaking(Unchecking):
    broken = False

    def move(self, param, group):
        super().move(param, group)
        if self.broken:
            raise KeyError("mine")


def test_a_step_that_raises_while_it_is_left_out_is_the_users_and_finds_its_gradients_again():
    model = seeded(mlp)
    optimizer = Breaking(model.parameters())
    guard = attach("guard", model, optimizer)
    stepped(model, optimizer, batches(1)[0], way="cleared")
    optimizer.broken = True
    with pytest.raises(KeyError, match="mine"):
        stepped(model, optimizer, poisoned(batches(1)[0]), way="cleared")
    optimizer.state_dict()
    assert all(param.grad.isnan().any() for param in model.parameters())
    optimizer.broken = False
    stepped(model, optimizer, batches(1)[0], way="cleared")
    assert guard.counts.steps == 2
    assert all(param.isfinite().all() for param in model.parameters())


def test_a_checkpoint_loaded_after_a_step_that_raised_stays():
    model = seeded(mlp)
    optimizer = Breaking(model.parameters())
    attach("guard", model, optimizer)
    optimizer.broken = True
    with pytest.raises(KeyError, match="mine"):
        stepped(model, optimizer, poisoned(batches(1)[0]), way="cleared")
    loaded = {name: torch.ones_like(one) for name, one in model.state_dict().items()}
    model.load_state_dict(loaded)
    optimizer.load_state_dict(optimizer.state_dict())
    assert bits(model.state_dict()) == bits(loaded)


def test_what_cannot_be_copied_is_left_out_without_gradients(monkeypatch):
    class Holding(Plain):
        def move(self, param, group):
            self.state[param]["opaque"] = object()
            if param.grad is not None:
                super().move(param, group)

    class Wide(OWN["Nulling"]):
        pass

    for make in (Holding, Wide):
        model = seeded(mlp)
        optimizer = make(model.parameters())
        guard = attach("guard", model, optimizer)
        stepped(model, optimizer, batches(1)[0], way="cleared")
        before = weights(model)
        monkeypatch.setattr("steadygrad.stepping.remembered.free_bytes", lambda *_: 100.0)
        stepped(model, optimizer, poisoned(batches(1)[0]), way="cleared")
        assert weights(model) == before
        assert guard.counts.skipped == 1


def test_closing_in_the_middle_of_a_step_that_is_left_out():
    model = seeded(mlp)
    optimizer = Clearing(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    guard = attach("guard", model, optimizer)
    stepped(model, optimizer, batches(1)[0], way="cleared")
    before = outcome(model, optimizer)
    optimizer.register_step_pre_hook(lambda *_: guard.close())
    stepped(model, optimizer, poisoned(batches(1)[0]), way="cleared")
    assert outcome(model, optimizer) == before
    assert not any(param.grad is not None and param.grad.isnan().any() for param in model.parameters())


def sharply(model, optimizer, stream):
    for batch in stream:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step(closure_of(model, optimizer, batch))


class TestStepsInTwoHalves:
    def sam_trained(self, stream, *, guarded=True):
        model = seeded(mlp)
        optimizer = SAM(model.parameters())
        guard = attach("guard", model, optimizer, clip_norm(1e9)) if guarded else None
        sharply(model, optimizer, stream)
        return weights(model), bits(list(optimizer.base.state.values())), guard

    @pytest.mark.parametrize("at", [0, 3])
    def test_what_the_first_half_has_written_is_undone(self, at):
        stream = batches(6)
        *plain, _ = self.sam_trained(stream, guarded=False)
        *guarded, guard = self.sam_trained([*stream[:at], poisoned(stream[at]), *stream[at:]])
        assert guarded == plain
        assert guard.counts.skipped == 1
        (finding,) = guard.findings
        assert finding.kind == "nonfinite_input"

    def test_the_streak_says_who_is_ruined_when_somebody_else_wrote_it(self):
        model = seeded(mlp)
        optimizer = SAM(model.parameters())
        attach("guard", model, optimizer.base, max_skips=3)
        with pytest.raises(NonfiniteStreak) as caught:
            sharply(model, optimizer, [*batches(2), *map(poisoned, batches(5))])
        text = str(caught.value)
        assert "0.weight, 0.bias, 2.weight" in text
        assert "something else than the skipped steps" in text
        assert "finite number" not in text

    def test_the_streak_says_so_when_all_weights_are_well(self):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["AdamW"](model.parameters())
        attach("guard", model, optimizer, max_skips=3)
        with pytest.raises(NonfiniteStreak, match="every weight is still a finite number"):
            train(model, optimizer, map(poisoned, batches(5)))
