from __future__ import annotations

import math
from statistics import median

import pytest
import torch

from steadygrad.demo.arms import CLIP, GUARD, PLAIN
from steadygrad.demo.outcome import judge
from steadygrad.demo.story import sentence
from steadygrad.demo.training import train


def trained(workload, arm, tmp_path):
    return judge(train(workload, arm, 0, tmp_path))


def test_healthy_run_has_learned_and_shows_no_bad_step(line, tmp_path):
    outcome = trained(line(), PLAIN, tmp_path)
    assert outcome.fate == "learned"
    assert outcome.held_out_loss < 0.1
    assert (outcome.first_bad_step, outcome.where) == (None, "")
    assert sentence(outcome) == "plain: learned by itself."


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("arm", [PLAIN, CLIP])
def test_ruined_run_names_its_step_and_no_parameter_where_all_are_affected(line, tmp_path, arm, bad):
    outcome = trained(line(poison=(5,), bad=bad), arm, tmp_path)
    assert (outcome.fate, outcome.first_bad_step) == ("diverged", 5)
    assert outcome.where == ""
    assert "after step 5, for good." in sentence(outcome)


def test_clip_is_blamed_where_it_spread_the_nan(line, tmp_path):
    poisoned = line(poison=(5,))
    assert "made the clip multiply" in sentence(trained(poisoned, CLIP, tmp_path))
    assert "clip" not in sentence(trained(poisoned, PLAIN, tmp_path))


def test_guard_that_skipped_tells_so(line, tmp_path):
    outcome = trained(line(poison=(5,)), GUARD, tmp_path)
    assert (outcome.fate, outcome.first_bad_step) == ("learned", 5)
    assert "left out 1 of 20 steps, and learned." in sentence(outcome)


def test_run_that_ends_above_the_guess_has_never_learned(line, tmp_path):
    workload = line(steps=2)
    workload.guess = 1e-9
    outcome = trained(workload, PLAIN, tmp_path)
    assert outcome.fate == "never learned"
    assert sentence(outcome).startswith(
        "plain: it got through, but its loss is no lower than a constant guess"
    )


def test_clip_that_froze_the_run_is_told_with_its_numbers(line, tmp_path):
    workload = line(scale=1e4, steps=3)
    workload.guess = 1e-9
    outcome = trained(workload, CLIP, tmp_path)
    assert f"norm of about {outcome.usual_norm:,.0f} were cut to 1 in 3 of 3 steps" in sentence(outcome)


def test_run_that_the_guard_stopped_isnt_called_learned(line, tmp_path):
    outcome = trained(line(poison=range(10, 20), steps=20), GUARD, tmp_path)
    assert outcome.fate == "stopped"
    assert "too many in a row" in sentence(outcome)


def test_network_too_large_to_be_evaluated_has_diverged(line, tmp_path):
    training = train(line(), PLAIN, 0, tmp_path)
    with torch.no_grad():
        training.model.weight.fill_(1e30)
    outcome = judge(training)
    assert outcome.fate == "diverged"
    assert "finite, but so large" in sentence(outcome)


def test_moved_is_the_distance_in_lengths_of_the_first_weights(line, tmp_path):
    training = train(line(), PLAIN, 0, tmp_path)
    before = torch.cat([each.flatten() for each in training.initial]).double()
    after = torch.cat([each.detach().flatten() for each in training.model.parameters()]).double()
    assert judge(training).moved == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-5)


def test_usual_norm_ignores_what_isnt_finite(line, tmp_path):
    training = train(line(poison=(5, 9)), GUARD, 0, tmp_path)
    finite = [norm for norm in training.norms if math.isfinite(norm)]
    assert len(finite) == 18
    assert judge(training).usual_norm == median(finite)


def test_spike_that_the_guard_holds_back_is_placed_at_a_parameter(line, tmp_path):
    outcome = trained(line(poison=(12,), bad=1e6), GUARD, tmp_path)
    assert (outcome.fate, outcome.first_bad_step) == ("learned", 12)
    assert outcome.where == "weight"
    assert "held back" in sentence(outcome)
