from __future__ import annotations

import math
import os

import pytest
import torch

import steadygrad as sg
from steadygrad.demo.arms import ARMS, CLIP, GUARD, PLAIN
from steadygrad.demo.digits_cnn import DigitsCNN
from steadygrad.demo.training import train
from steadygrad.notices import QUIET, quiet


def by_hand(workload, seed, max_norm=None):
    """The training loop of a beginner, with nothing of ours in it."""
    torch.manual_seed(seed)
    model = workload.build_model()
    optimizer = workload.build_optimizer(model)
    for batch in workload.batches(seed):
        optimizer.zero_grad()
        workload.loss(model, batch).backward()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
    return model


def parameters(model):
    return torch.cat([param.detach().flatten() for param in model.parameters()])


@pytest.mark.parametrize("seed", range(3))
def test_plain_arm_is_the_plain_loop_bit_for_bit(line, tmp_path, seed):
    trained = train(line(), PLAIN, seed, tmp_path).model
    assert torch.equal(parameters(trained), parameters(by_hand(line(), seed)))


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_clip_arm_is_the_textbook_loop_bit_for_bit(line, tmp_path, scale):
    trained = train(line(scale), CLIP, 0, tmp_path).model
    assert torch.equal(parameters(trained), parameters(by_hand(line(scale), 0, max_norm=1.0)))


def test_arms_share_first_weights_and_first_batch(line, tmp_path):
    trainings = [train(line(), arm, 3, tmp_path) for arm in ARMS]
    for training in trainings:
        assert training.norms[0] == pytest.approx(trainings[0].norms[0])
        assert all(map(torch.equal, training.initial, trainings[0].initial))


def test_seed_changes_weights_and_norms(line, tmp_path):
    first, second = (train(line(), PLAIN, seed, tmp_path) for seed in (0, 1))
    assert first.norms != second.norms


def test_same_seed_gives_the_same_training(line, tmp_path):
    first, second = (train(line(5.0), GUARD, 4, tmp_path) for _ in range(2))
    assert first.norms == second.norms
    assert torch.equal(parameters(first.model), parameters(second.model))


def test_same_seed_gives_the_same_guarded_training_of_a_network_that_explodes(tmp_path):
    first, second = (train(DigitsCNN(quick=True), GUARD, 0, tmp_path) for _ in range(2))
    assert first.norms == second.norms
    assert torch.equal(parameters(first.model), parameters(second.model))


def test_clipped_steps_are_counted(line, tmp_path):
    training = train(line(100.0), CLIP, 0, tmp_path)
    assert training.clipped == sum(norm > 1.0 for norm in training.norms) > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("arm", [PLAIN, CLIP])
def test_poisoned_batch_ruins_plain_and_clip_and_ends_them(line, tmp_path, arm, bad):
    training = train(line(poison=(5,), bad=bad), arm, 0, tmp_path)
    assert training.ruined_at == 5
    assert len(training.norms) == 6
    assert not torch.isfinite(parameters(training.model)).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_guard_survives_a_poisoned_batch(line, tmp_path, bad):
    training = train(line(poison=(5,), bad=bad), GUARD, 0, tmp_path)
    assert training.ruined_at is None
    assert training.skipped == 1
    assert training.first_act.step == 5
    assert len(training.norms) == 20
    assert torch.isfinite(parameters(training.model)).all()


def test_guard_that_stops_the_run_is_noted(line, tmp_path):
    training = train(line(poison=range(3, 20)), GUARD, 0, tmp_path)
    assert training.stopped
    assert torch.isfinite(parameters(training.model)).all()


def test_every_step_is_recorded_with_its_loss(line, tmp_path):
    training = train(line(), PLAIN, 0, tmp_path / "new" / "folder")
    with sg.open_run(training.run) as run:
        assert len(run.steps) == 20
        assert run.total_norm.tolist() == pytest.approx(training.norms, rel=1e-3)


def test_progress_is_told_after_each_step(line, tmp_path):
    ticks = []
    train(line(), PLAIN, 0, tmp_path, on_step=lambda: ticks.append(1))
    assert len(ticks) == 20


def test_nothing_is_said_while_training(line, tmp_path, capsys):
    train(line(poison=(5,)), GUARD, 0, tmp_path)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("before", [None, "0"])
def test_quiet_puts_the_environment_back(monkeypatch, before):
    monkeypatch.delenv(QUIET, raising=False)
    if before is not None:
        monkeypatch.setenv(QUIET, before)
    with pytest.raises(KeyError), quiet():
        raise KeyError
    assert os.environ.get(QUIET) == before


def test_threads_and_random_numbers_of_the_caller_are_left_alone(line, tmp_path):
    state = torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        train(line(), PLAIN, 0, tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert torch.equal(torch.get_rng_state(), state)
