"""A fault of our own never stops a training: it goes on as if nobody watched, and says so once."""

from __future__ import annotations

import pytest
import torch
from tests.monitor.workloads import (
    OPTIMIZERS,
    attach,
    batches,
    mlp,
    outcome,
    poisoned,
    seeded,
    step,
    train,
    weights,
)
from torch import nn

from steadygrad.policies import Policy, adagc, agc, clip_norm
from steadygrad.records import Finding
from steadygrad.runfile import open_run

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


class BrokenPolicy(Policy):
    """Raises in one of its methods, from the third step on."""

    def __init__(self, method):
        self.method = method
        self.calls = 0

    def _maybe(self, method):
        if method == self.method:
            self.calls += 1
            if self.calls > 2:
                raise RuntimeError(f"no {method} today")

    def scale(self, measurement):
        self._maybe("scale")

    def rewrite_(self, measurement):
        self._maybe("rewrite_")

    def lr_factor(self, measurement):
        self._maybe("lr_factor")
        return 1.0

    def learn(self, reading):
        self._maybe("learn")
        return ()


def plain_run(name):
    model = seeded(mlp)
    optimizer = OPTIMIZERS[name](model.parameters())
    return train(model, optimizer, batches(6)), outcome(model, optimizer)


def broken_run(name, break_it, *, late=False, policy=None, mode="guard", **options):
    model = seeded(mlp)
    optimizer = OPTIMIZERS[name](model.parameters())
    monitor = attach(mode, model, optimizer, policy, late=late, **options)
    stream = batches(6)
    losses = train(model, optimizer, stream[:2])
    break_it(monitor)
    losses += train(model, optimizer, stream[2:])
    return monitor, (losses, outcome(model, optimizer))


def assert_open(monitor, result, name, part, err):
    assert result == plain_run(name)
    lines = [line for line in err.splitlines() if "a fault in steadygrad's own" in line]
    assert len(lines) == 1
    assert part in lines[0]
    assert f"switched off: a fault in steadygrad's own {part}" in monitor.summary()
    monitor.close()


@both_paths
@pytest.mark.parametrize("name", ["SGD momentum", "AdamW fused"])
@pytest.mark.parametrize("method", ["scale", "rewrite_", "lr_factor", "learn"])
def test_a_policy_that_raises(method, name, late, capsys):
    monitor, result = broken_run(name, lambda _: None, late=late, policy=BrokenPolicy(method))
    assert_open(monitor, result, name, "policy", capsys.readouterr().err)


@both_paths
def test_a_policy_that_raised_still_leaves_non_finite_steps_out(late):
    model = seeded(mlp)
    optimizer = OPTIMIZERS["SGD momentum"](model.parameters())
    guard = attach("guard", model, optimizer, BrokenPolicy("scale"), late=late)
    train(model, optimizer, batches(4))
    before = outcome(model, optimizer)
    step(model, optimizer, poisoned(batches(1)[0]))
    assert outcome(model, optimizer) == before
    assert guard.last.skipped


def broken(*args, **kwargs):
    raise OSError("out of order")


class BrokenCheck:
    running = True
    gradients_ready = stepped = broken

    def close(self):
        self.running = False


BREAKS = {
    "detection": lambda monitor: setattr(monitor._tracks[0]._aftermath.lookout._panel, "observe", broken),
    "measuring": lambda monitor: setattr(monitor._tracks[0].lane.measurer, "measure", broken),
    "gradient check": lambda monitor: setattr(monitor._tracks[0], "_zero_grad", BrokenCheck()),
}


@both_paths
@pytest.mark.parametrize("mode", ["watch", "guard"])
@pytest.mark.parametrize("part", BREAKS)
def test_a_part_that_raises(part, mode, late, capsys):
    monitor, result = broken_run("SGD momentum", BREAKS[part], late=late, mode=mode)
    assert_open(monitor, result, "SGD momentum", part, capsys.readouterr().err)


@pytest.mark.parametrize("method", ["append", "finding"])
def test_a_recorder_that_raises(method, tmp_path, capsys):
    def break_it(monitor):
        setattr(monitor._logbook.recorder, method, broken)

    path = tmp_path / "a.steady"
    monitor, result = broken_run("AdamW", break_it, policy=clip_norm(1e9), run=path)
    if method == "finding":
        monitor._logbook.finding(Finding("exploding_gradient", "info", 3, ("0.weight",), "grew"))
    assert_open(monitor, result, "AdamW", "recording", capsys.readouterr().err)
    with open_run(path) as run:
        assert run.steps.tolist()[:2] == [0, 1]


def test_a_wiring_check_that_raises_leaves_counting_and_recording_on(capsys, monkeypatch):
    monkeypatch.setattr("steadygrad.monitor.is_due", lambda step: step == 3)

    def break_it(monitor):
        monitor._check_wiring = broken

    monitor, result = broken_run("SGD", break_it)
    assert_open(monitor, result, "SGD", "wiring check", capsys.readouterr().err)
    assert monitor.last.step == 5


def test_other_parts_go_on_when_one_is_off(capsys):
    monitor, _ = broken_run("SGD", BREAKS["detection"])
    assert monitor.counts.steps == 6
    assert monitor.last.step == 5


def test_a_fault_leaves_rate_and_fused_attributes_as_they_were():
    class Half(BrokenPolicy):
        def scale(self, measurement):
            return torch.tensor(0.5, dtype=torch.float64)

    model = seeded(mlp)
    optimizer = OPTIMIZERS["AdamW fused"](model.parameters())
    attach("guard", model, optimizer, Half("lr_factor"), late=True)
    train(model, optimizer, batches(5))
    assert not hasattr(optimizer, "grad_scale")
    assert not hasattr(optimizer, "found_inf")


def test_clip_goes_on_returning_a_number():
    model = seeded(mlp)
    guard = attach("guard", model)
    guard._tracks[0].lane.measurer.measure = broken
    model(batches(1)[0][0]).sum().backward()
    expected = float(torch.cat([param.grad.flatten() for param in model.parameters()]).norm())
    for _ in range(2):
        assert float(guard.clip_()) == pytest.approx(expected)
    assert "switched off" in guard.summary()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_exception_of_the_users_own_hook_passes(error):
    model = seeded(mlp)
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    guard = attach("guard", model, optimizer)

    def hook(*args):
        raise error("mine")

    handle = optimizer.register_step_pre_hook(hook)
    with pytest.raises(error, match="mine"):
        step(model, optimizer, batches(1)[0])
    handle.remove()
    step(model, optimizer, batches(1)[0])
    assert guard.counts.steps == 1


def skips(model, optimizer, guard):
    """Train a little; whether a poisoned step then leaves everything as it was."""
    train(model, optimizer, batches(3))
    before = outcome(model, optimizer)
    step(model, optimizer, poisoned(batches(1)[0]))
    assert outcome(model, optimizer) == before
    assert "measuring" not in guard.summary()


NO_COST = {
    "parameter norms": lambda track, _: setattr(track.lane.measurer, "norms_of", broken),
    "update probes": lambda track, _: setattr(track.lane._moves.probe, "open", broken),
    "closing probes": lambda track, _: setattr(track.lane._moves.probe, "close", broken),
    "outlet": lambda _, monitor: setattr(monitor, "reading", broken),
    "wiring": lambda _, monitor: setattr(monitor, "_check_wiring", broken),
    "incidents": lambda _, monitor: setattr(monitor, "incident", broken),
    "notices": lambda _, monitor: setattr(monitor, "say", broken),
}


@both_paths
@pytest.mark.parametrize("policy", [agc, adagc])
@pytest.mark.parametrize("name", ["SGD momentum", "AdamW fused", "LBFGS"])
@pytest.mark.parametrize("part", NO_COST)
def test_what_only_observes_costs_no_skip(part, name, policy, late):
    model = seeded(mlp)
    optimizer = OPTIMIZERS[name](model.parameters())
    guard = attach("guard", model, optimizer, policy(), late=late, overhead=1.0)
    NO_COST[part](guard._tracks[0], guard)
    skips(model, optimizer, guard)


@both_paths
@pytest.mark.parametrize("policy", [None, agc, adagc])
def test_a_lazy_layer_that_is_never_used_costs_nothing(policy, late):
    model = seeded(mlp)
    model.forward = nn.Sequential(*model).forward
    model.unused = nn.LazyLinear(3)
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    guard = attach("guard", model, optimizer, policy and policy(), late=late, overhead=1.0)
    train(model, optimizer, batches(3))
    before = weights(model[:-1])
    step(model, optimizer, poisoned(batches(1)[0]))
    assert weights(model[:-1]) == before
    assert guard.counts.steps + late == 4
    assert "switched off" not in guard.summary()


@both_paths
def test_a_copy_that_cannot_be_made_costs_no_skip(late):
    model = seeded(mlp)
    optimizer = OPTIMIZERS["LBFGS"](model.parameters())
    guard = attach("guard", model, optimizer, late=late)
    guard._tracks[0]._undo.remember = broken
    before = weights(model)
    step(model, optimizer, poisoned(batches(1)[0]))
    assert weights(model) == before
    assert "own undoing" in guard.summary()
