from __future__ import annotations

import math

import pytest
import torch
from tests.monitor.workloads import OPTIMIZERS, batches, mlp, poisoned, seeded, step, train

from steadygrad.containment import Containment
from steadygrad.errors import NonfiniteStreak
from steadygrad.measure import ParamTable, parameter_names
from steadygrad.policies import Policy, zclip
from steadygrad.records import Incident
from steadygrad.stepping import SkipStreak, Track

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


class Outlet:
    """Keeps what a track publishes, in order."""

    def __init__(self):
        self.events = []

    def reading(self, track, reading):
        self.events.append(("reading", reading))

    def finding(self, finding):
        self.events.append(("finding", finding))

    def incident(self, incident):
        self.events.append(("incident", incident))

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
