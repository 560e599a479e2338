from __future__ import annotations

import math

import pytest
import torch
from tests.monitor.workloads import OPTIMIZERS, batches, mlp, poisoned, seeded, step, train, weights

from steadygrad.containment import Containment
from steadygrad.errors import NonfiniteStreak
from steadygrad.measure import ParamTable, parameter_names
from steadygrad.policies import Policy, clip_norm, zclip
from steadygrad.records import Incident
from steadygrad.stepping import SkipStreak, Track

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


class Outlet:
    """Keeps what a track publishes, in order; wants to be told of each step at once."""

    at_ease = False

    def __init__(self):
        self.traced = []
        self.events = []

    def free_until(self, track):
        return 0

    def settle(self, *, ended=False):
        pass

    def begins(self, track):
        pass

    def reading(self, track, reading):
        self.events.append(("reading", reading))

    def skipped(self, reading):
        pass

    def finding(self, finding):
        self.events.append(("finding", finding))

    def incident(self, incident):
        self.events.append(("incident", incident))

    def say(self, key, text):
        self.events.append((key, text))

    def nonfinite(self, track):
        self.traced.append(track.lane.step)

    def grown(self, track, tensors):
        self.events.append(("grown", [tensor.name for tensor in tensors]))

    def of(self, kind):
        return [event for name, event in self.events if name == kind]


def tracked(policy=None, *, late=False, max_skips=10, name="SGD momentum", params=None):
    model = seeded(mlp)
    optimizer = OPTIMIZERS[name](params(model) if params else model.parameters())
    outlet = Outlet()
    track = Track(
        0,
        optimizer,
        ParamTable(parameter_names(model), optimizer.param_groups),
        policy,
        streak=SkipStreak(max_skips),
        outlet=outlet,
        containment=Containment(pytest.fail),
        overhead=0.02,
        clock=lambda: 0.0,
        late=late,
    )
    return model, optimizer, track, outlet


class Telling(Policy):
    """Announces whatever it is told."""

    def learn(self, reading):
        return (Incident(reading.step, "engage", "learnt"),)

    def skipped(self, reading):
        return (Incident(reading.step, "release", "skipped"),)


@both_paths
def test_a_policy_learns_finite_steps_and_is_told_of_skipped_ones(late):
    model, optimizer, track, outlet = tracked(Telling(), late=late)
    train(model, optimizer, [batches(1)[0], poisoned(batches(1)[0]), batches(1)[0]])
    track.close()
    assert [(i.step, i.reason) for i in outlet.of("incident")] == [
        (0, "learnt"),
        (1, "skipped"),
        (2, "learnt"),
    ]


@both_paths
def test_a_policy_gets_the_raw_norms(late):
    seen = []

    class Halving(Policy):
        def scale(self, measurement):
            return torch.full_like(measurement.total_norm, 0.5)

        def learn(self, reading):
            seen.append((reading.total_norm, reading.clip_coef))
            return ()

    model, optimizer, track, _ = tracked(Halving(), late=late)
    x, y = batches(1)[0]
    torch.nn.functional.mse_loss(model(x), y).backward()
    raw = float(torch.cat([param.grad.flatten() for param in model.parameters()]).norm())
    optimizer.step()
    track.close()
    assert seen == [(pytest.approx(raw, rel=1e-5), 0.5)]


@both_paths
def test_parameters_are_met_at_the_start_and_when_they_join(late):
    met = []

    class Meeting(Policy):
        needs_param_norms = True

        def prepare(self, tensors, param_norms):
            met.append((len(tensors), len(param_norms), bool((param_norms >= 0).all())))

    model, optimizer, track, outlet = tracked(Meeting(), late=late, params=lambda m: m[:3].parameters())
    optimizer.add_param_group({"params": model[4].parameters()})
    train(model, optimizer, batches(2))
    track.close()
    assert met == [(4, 4, True), (6, 6, True)]
    assert outlet.of("grown") == [["4.weight", "4.bias"]]
    assert {len(reading.norms) for reading in outlet.of("reading")} == {6}


@both_paths
def test_a_streak_publishes_its_last_reading_and_a_stop_before_it_raises(late):
    model, optimizer, track, outlet = tracked(Policy(), late=late, max_skips=2)
    with pytest.raises(NonfiniteStreak):
        train(model, optimizer, map(poisoned, batches(4)))
    kinds = [name for name, _ in outlet.events]
    assert kinds.count("reading") == 2
    (stop,) = outlet.of("incident")
    assert (stop.action, stop.step) == ("stop", 1)
    assert stop.where[0] == "4.bias"
    track.close()


def test_overflows_teach_the_policy_nothing():
    model, optimizer, track, outlet = tracked(Telling(), name="AdamW fused")
    optimizer.found_inf = torch.tensor(1.0)
    step(model, optimizer, poisoned(batches(1)[0]))
    assert outlet.of("incident") == []
    (reading,) = outlet.of("reading")
    assert (reading.skipped, reading.overflow) == (True, True)
    track.close()


def test_state_goes_on_where_it_was():
    model, optimizer, track, _ = tracked(zclip())
    train(model, optimizer, batches(6))
    state = track.state_dict()
    track.close()
    _, _, again, _ = tracked(zclip())
    again.load_state_dict(state)
    assert again.lane.step == 6
    assert again.state_dict()["policy"].keys() == state["policy"].keys()
    assert again.policy.cap == track.policy.cap
    assert math.isfinite(again.policy.cap)


@both_paths
@pytest.mark.parametrize("name", ["SGD momentum", "AdamW fused"])
def test_a_parameter_put_in_anothers_place_is_guarded(name, late):
    model, optimizer, track, outlet = tracked(Policy(), late=late, name=name)
    train(model, optimizer, batches(2))
    fresh = torch.nn.Parameter(model[0].weight.detach().clone())
    model[0].weight = fresh
    optimizer.param_groups[0]["params"][0] = fresh
    before = weights(model)
    step(model, optimizer, poisoned(batches(1)[0]))
    assert weights(model) == before
    step(model, optimizer, batches(1)[0])
    assert weights(model) != before
    track.close()
    assert [reading.skipped for reading in outlet.of("reading")] == [False, False, True, False]
    assert [reading.absent for reading in outlet.of("reading")] == [None] * 4


@both_paths
def test_a_group_that_was_removed_is_neither_measured_nor_treated(late):
    model, optimizer, track, outlet = tracked(
        clip_norm(1e-3),
        late=late,
        params=lambda m: [{"params": m[:3].parameters()}, {"params": m[4].parameters()}],
    )
    train(model, optimizer, batches(2))
    optimizer.param_groups.pop(1)
    for param in model[4].parameters():
        param.grad = torch.full_like(param, math.nan)
    for param in model[:3].parameters():
        param.grad = torch.ones_like(param)
    optimizer.step()
    track.close()
    reading = outlet.of("reading")[-1]
    assert not reading.skipped
    assert reading.absent.tolist() == [False] * 4 + [True] * 2
    assert reading.norms[4:].tolist() == [0.0, 0.0]
    assert model[4].bias.grad.isnan().all()


@both_paths
def test_a_head_that_joins_later_is_called_as_in_the_model(late):
    model, optimizer, track, outlet = tracked(Policy(), late=late)
    model.add_module("head", torch.nn.Linear(1, 1))
    optimizer.add_param_group({"params": model.head.parameters()})
    train(model, optimizer, batches(1))
    track.close()
    assert outlet.of("grown") == [["head.weight", "head.bias"]]


class Failing(torch.optim.SGD):
    """Its step raises where it is told to."""

    failing = False

    def step(self, closure=None):
        loss = super().step(closure)
        if self.failing:
            raise RuntimeError("the user's own")
        return loss


class Lowering(Policy):
    def lr_factor(self, measurement):
        return 0.01


def raised(track_of):
    """A track whose optimizer's only step has raised."""
    OPTIMIZERS["failing"] = lambda params: Failing(params, lr=1.0)
    try:
        model, optimizer, track, outlet = track_of()
    finally:
        del OPTIMIZERS["failing"]
    optimizer.failing = True
    return model, optimizer, track, outlet


@pytest.mark.parametrize("ask", ["optimizer", "track", "close"])
def test_a_rate_lowered_for_a_step_that_raised_reaches_no_checkpoint(ask):
    model, optimizer, track, _ = raised(lambda: tracked(Lowering(), name="failing"))
    with pytest.raises(RuntimeError, match="the user's own"):
        step(model, optimizer, batches(1)[0])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    {"optimizer": optimizer.state_dict, "track": track.state_dict, "close": track.close}[ask]()
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_a_scheduler_after_a_step_that_raised_keeps_its_say():
    model, optimizer, _, _ = raised(lambda: tracked(Lowering(), name="failing"))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    with pytest.raises(RuntimeError, match="the user's own"):
        step(model, optimizer, batches(1)[0])
    scheduler.step()
    optimizer.failing = False
    step(model, optimizer, batches(1)[0])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


@both_paths
@pytest.mark.parametrize("name", ["SGD momentum", "AdamW", "AdamW fused", "LBFGS"])
def test_closing_in_the_middle_of_a_skipped_step_lets_no_nan_through(name, late):
    model, optimizer, track, _ = tracked(Policy(), late=late, name=name)
    optimizer.register_step_pre_hook(lambda *_: track.close())
    before = weights(model)
    step(model, optimizer, poisoned(batches(1)[0]))
    assert weights(model) == before
    assert all(param.grad is not None for param in model.parameters())
    step(model, optimizer, batches(1)[0])
    assert weights(model) != before
    assert len(optimizer._optimizer_step_post_hooks) == 0
