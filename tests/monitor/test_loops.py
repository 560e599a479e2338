"""What surrounds a step: schedulers, accumulation, compilation, lazy modules."""

from __future__ import annotations

import gc

import pytest
import torch
from tests.monitor.workloads import (
    OPTIMIZERS,
    attach,
    batches,
    closure_of,
    loss_of,
    mlp,
    poisoned,
    seeded,
    train,
    weights,
)
from torch import nn

import steadygrad as sg
from steadygrad.policies import relative_update

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


class TestSchedulers:
    @both_paths
    def test_the_schedule_is_as_without_us_and_nothing_is_warned(self, late):
        histories = []
        for policy in (None, relative_update(1e-7)):
            model = seeded(mlp)
            optimizer = OPTIMIZERS["AdamW"](model.parameters())
            if policy is not None:
                guard = attach("guard", model, optimizer, policy, late=late)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=8)
            rates = []
            for batch in [*batches(6), poisoned(batches(1)[0])]:
                train(model, optimizer, [poisoned(batch) if not rates and policy else batch])
                schedule.step()
                rates.append(optimizer.param_groups[0]["lr"])
            histories.append(rates)
        assert histories[0] == histories[1]
        assert guard.last is not None
        assert guard.counts.lowered > 0
        lowered = [reading for reading in guard.recent if reading.lr_factor < 1.0]
        assert lowered[0].lr > 0.0

    def test_a_rate_kept_as_a_tensor_is_the_same_object_afterwards(self):
        model = seeded(mlp)
        rate = torch.tensor(0.1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, foreach=False)
        guard = attach("guard", model, optimizer, relative_update(1e-6))
        train(model, optimizer, batches(2))
        assert optimizer.param_groups[0]["lr"] is rate
        assert float(rate) == pytest.approx(0.1)
        assert guard.counts.lowered == 2


class TestAccumulation:
    @both_paths
    def test_one_poisoned_micro_batch_skips_the_one_step(self, late):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["AdamW"](model.parameters())
        guard = attach("guard", model, optimizer, late=late)
        before = weights(model)
        micro = batches(4)
        for batch in [*micro[:2], poisoned(micro[2]), micro[3]]:
            (loss_of(model, batch) / 4).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert weights(model) == before
        assert guard.last.skipped
        assert guard.counts.steps == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@both_paths
def test_a_compiled_model_and_a_compiled_step(late, capsys):
    model = seeded(mlp)
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.SGD(compiled.parameters(), lr=0.01)
    guard = attach("guard", compiled, optimizer, late=late)
    compiled_step = torch.compile(optimizer.step, backend="eager")
    for batch in batches(2):
        closure_of(compiled, optimizer, batch)()
        compiled_step()
    before = weights(model)
    closure_of(compiled, optimizer, poisoned(batches(1)[0]))()
    compiled_step()
    assert weights(model) == before
    assert guard.last.skipped
    assert guard.counts.steps == 3
    assert "non-finite gradient in 4.bias" in capsys.readouterr().err
    assert guard.findings[0].kind == "nonfinite_input"
    gc.collect()


def test_lazy_modules_are_guarded_once_they_have_a_shape():
    model = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = sg.guard(model, optimizer)
    for batch in batches(2):
        closure_of(model, optimizer, batch)()
        optimizer.step()
    assert guard.counts.steps == 2
    assert guard.last.norms.all()
    assert "switched off" not in guard.summary()


def test_sizes_of_weights_and_updates_are_those_of_their_own_optimizers_steps(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in model]
    with sg.watch(model, optimizers, run=tmp_path / "a.steady"):
        for _ in range(6):
            model(torch.randn(8, 4)).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    run = sg.open_run(tmp_path / "a.steady")
    for name in ("0.weight", "1.weight"):
        for steps, sizes in (run.param_norms(name), run.update_norms(name)):
            assert len(steps) == len(set(steps.tolist())) > 0
            assert (sizes > 0).all()
