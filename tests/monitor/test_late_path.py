"""The accelerator's path gives the host path's weights, and its Readings arrive complete, one step late."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.monitor.workloads import OPTIMIZERS, attach, batches, mlp, poisoned, seeded, step, train
from torch import nn

from steadygrad.errors import NonfiniteStreak
from steadygrad.policies import (
    adagc,
    agc,
    auto,
    autoclip,
    chain,
    clip_norm,
    clip_value,
    relative_update,
    steady,
    zclip,
)
from steadygrad.runfile import open_run

POLICIES = {
    "auto": auto,
    "clip_norm": lambda: clip_norm(0.2),
    "clip_value": lambda: clip_value(0.01),
    "agc": agc,
    "autoclip": lambda: autoclip(10.0),
    "zclip": zclip,
    "adagc": lambda: adagc(warmup_steps=0),
    "relative_update": lambda: relative_update(1e-4),
    "steady": steady,
    "chain": lambda: chain(agc(), clip_norm(0.2)),
}
# What they decide rests on Readings, and on this path those are one step older.
FROM_HISTORY = {"autoclip", "zclip", "adagc", "steady", "auto"}


def run(policy, name, late, mode="guard", batch_count=8):
    model = seeded(mlp)
    optimizer = OPTIMIZERS[name](model.parameters())
    monitor = attach(mode, model, optimizer, policy, late=late, overhead=1.0)
    stream = batches(batch_count)
    train(model, optimizer, [*stream[:4], poisoned(stream[4]), *stream[4:]])
    return [param.detach() for param in model.parameters()], monitor


@pytest.mark.parametrize("name", ["SGD momentum", "SGD fused", "AdamW", "AdamW fused"])
@pytest.mark.parametrize("policy", [name for name in POLICIES if name not in FROM_HISTORY])
def test_policies_without_memory_give_the_same_weights(policy, name):
    host, _ = run(POLICIES[policy](), name, late=False)
    late, monitor = run(POLICIES[policy](), name, late=True)
    torch.testing.assert_close(late, host, rtol=1e-5, atol=1e-7)
    assert monitor.last is not None
    assert monitor.counts.clipped + monitor.counts.lowered > 0


def distance(some, others):
    pairs = zip(some, others, strict=True)
    return float(torch.cat([(a.detach() - b.detach()).flatten() for a, b in pairs]).norm())


@pytest.mark.parametrize("name", ["SGD fused", "AdamW"])
@pytest.mark.parametrize("policy", sorted(FROM_HISTORY))
def test_policies_with_memory_keep_the_weights_close(policy, name):
    host, _ = run(POLICIES[policy](), name, late=False)
    late, monitor = run(POLICIES[policy](), name, late=True)
    assert all(torch.isfinite(param).all() for param in late)
    assert distance(late, host) <= 0.35 * distance(seeded(mlp).parameters(), host)
    assert monitor.last is not None
    assert monitor.counts.skipped == 1


def readings(name, late, policy=None, mode="watch"):
    got = []
    model = seeded(mlp)
    optimizer = OPTIMIZERS[name](model.parameters())
    monitor = attach(mode, model, optimizer, policy, late=late, overhead=1.0)
    stream = batches(6)
    for batch in [*stream[:3], poisoned(stream[3]), *stream[3:]]:
        got.append(len(monitor._logbook.recent))
        step(model, optimizer, batch)
    return monitor.recent, got


@pytest.mark.parametrize("mode", ["watch", "guard"])
@pytest.mark.parametrize("name", ["SGD momentum", "AdamW fused"])
def test_late_readings_equal_those_of_the_host(name, mode):
    policy = (lambda: clip_norm(0.2)) if mode == "guard" else (lambda: None)
    host, _ = readings(name, False, policy(), mode)
    late, _ = readings(name, True, policy(), mode)
    assert len(late) == len(host) == 7
    for a, b in zip(late, host, strict=True):
        assert (a.step, a.optimizer, a.lr, a.skipped, a.overflow) == (
            b.step,
            b.optimizer,
            b.lr,
            b.skipped,
            b.overflow,
        )
        np.testing.assert_allclose(a.norms, b.norms, rtol=1e-5)
        np.testing.assert_allclose(a.total_norm, b.total_norm, rtol=1e-5)
        assert a.clip_coef == pytest.approx(b.clip_coef, rel=1e-5)
        assert (a.absent is None) == (b.absent is None)


def test_readings_arrive_one_step_late():
    _, known_before = readings("AdamW", True)
    assert known_before == [0, 0, 1, 2, 3, 4, 5]
    _, known_before = readings("AdamW", False)
    assert known_before == [0, 1, 2, 3, 4, 5, 6]


def engaged_at(path, late, policy, *, spike, rate):
    """Steps at which ``auto`` announced itself, where step 20's loss and the rate from step 21 on are changed."""
    model = seeded(mlp)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = attach("guard", model, optimizer, policy, late=late, run=path)
    for at, batch in enumerate(batches(30)):
        optimizer.zero_grad()
        (nn.functional.mse_loss(model(batch[0]), batch[1]) * (spike if at == 20 else 1.0)).backward()
        optimizer.param_groups[0]["lr"] = 0.01 * (rate if at > 20 else 1.0)
        optimizer.step()
    monitor.close()
    return [incident.step for incident in open_run(path).incidents if incident.action == "engage"]


@pytest.mark.parametrize("late", [False, True], ids=["host", "late"])
@pytest.mark.parametrize("policy", [auto, lambda: chain(auto(), clip_norm(1e9))], ids=["auto", "chain"])
def test_a_step_is_judged_by_the_limits_of_its_own_rate(tmp_path, late, policy):
    # A spike just before the rate falls is still one, ...
    assert engaged_at(tmp_path / "fall.steady", late, policy(), spike=1e4, rate=1e-6) == [20]
    # ... and an ordinary step just before the rate rises is none.
    assert 20 not in engaged_at(tmp_path / "rise.steady", late, policy(), spike=1.0, rate=1e5)


@pytest.mark.parametrize("ask", ["last", "recent", "findings", "summary", "state_dict", "close"])
def test_whoever_asks_gets_the_newest_step(ask):
    model = seeded(mlp)
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    monitor = attach("guard", model, optimizer, late=True)
    step(model, optimizer, poisoned(batches(1)[0]))
    assert monitor.counts.steps == 0
    answer = getattr(monitor, ask)
    answer() if callable(answer) else answer
    assert monitor.counts.steps == 1
    assert monitor.counts.skipped == 1


@pytest.mark.parametrize("late", [False, True], ids=["host", "late"])
def test_updates_and_parameter_norms_are_those_of_the_step(late):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    monitor = attach("watch", model, optimizer, late=late, overhead=1.0)
    probed = []
    for value in range(1, 4):
        before = [param.detach().clone() for param in model.parameters()]
        for param in model.parameters():
            param.grad = torch.full_like(param, float(value))
        optimizer.step()
        reading = monitor.last
        if reading.update_norms is not None:
            probed.append(reading.step)
            moved = [float((a - b.detach()).norm()) for a, b in zip(before, model.parameters(), strict=True)]
            np.testing.assert_allclose(reading.update_norms, moved, rtol=1e-4)
            np.testing.assert_allclose(reading.param_norms, [float(p.norm()) for p in before], rtol=1e-4)
    assert probed == [0, 1, 2]


@pytest.mark.parametrize("late", [False, True], ids=["host", "late"])
def test_a_skipped_step_shows_no_update(late):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, fused=True)
    monitor = attach("guard", model, optimizer, late=late, overhead=1.0)
    for value in (1.0, float("nan")):
        for param in model.parameters():
            param.grad = torch.full_like(param, value)
        optimizer.step()
    updates = monitor.last.update_norms
    assert monitor.last.skipped
    assert updates is None or updates.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("ask", ["last", "recent", "findings", "summary", "state_dict"])
def test_whoever_asks_gets_no_error_that_is_meant_for_the_loop(ask):
    model = seeded(mlp)
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    monitor = attach("guard", model, optimizer, late=True, max_skips=2)
    for _ in range(2):
        step(model, optimizer, poisoned(batches(1)[0]))
    answer = getattr(monitor, ask)
    answer() if callable(answer) else answer
    assert monitor.counts.skipped == 2
    before = [param.detach().clone() for param in model.parameters()]
    with pytest.raises(NonfiniteStreak):
        step(model, optimizer, batches(1)[0])
    torch.testing.assert_close(list(model.parameters()), before, rtol=0.0, atol=0.0)
    step(model, optimizer, batches(1)[0])
    monitor.close()
