"""What `steadygrad run` says of a loss that isn't finite, from its first step on."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("mode", [(), ("--guard",)], ids=["watch", "guard"])
def test_data_that_is_nan_from_the_first_step_on(launched, plain, mode):
    ended = launched("broken_data.py", *mode)
    (run,) = ended.runs
    assert (run.findings[0].kind, run.findings[0].step) == ("nonfinite_input", 0)
    assert ended.out == plain("broken_data.py").out or mode


@pytest.mark.parametrize("mode", [(), ("--guard",)], ids=["watch", "guard"])
def test_the_operation_of_a_loss_that_the_script_writes_out(launched, mode):
    (run,) = launched("log_of_zero.py", *mode).runs
    first = next(one for one in run.findings if one.kind.startswith("nonfinite"))
    assert (first.kind, first.step) == ("nonfinite_loss", 2)
    assert "aten.log" in first.summary
    assert "logarithm of 0" in first.causes[0]


@pytest.mark.parametrize("mode", [(), ("--guard",)], ids=["watch", "guard"])
def test_returns_without_a_spread_are_the_losses_fault_and_not_the_batchs(launched, mode):
    (run,) = launched("reinforce.py", *mode).runs
    first = next(one for one in run.findings if one.kind.startswith("nonfinite"))
    assert (first.kind, first.step) == ("nonfinite_loss", 3)
    assert "a factor of the loss" in first.summary
    assert "divided by a spread of 0" in first.causes[0]
    assert "1e-8" in first.remedies[0].code


def test_targets_that_are_broken_are_told_by_the_name_of_their_variable(launched):
    (run,) = launched("broken_targets.py", args=("nan",)).runs
    first = run.findings[0]
    assert (first.kind, first.step) == ("nonfinite_input", 0)
    assert "NaN was in depth already" in first.summary
    assert "rows 2, 5" in first.summary


def test_targets_of_which_the_loss_makes_an_inf_are_not_called_broken(launched):
    (run,) = launched("broken_targets.py", args=("zero",)).runs
    first = run.findings[0]
    assert (first.kind, first.step) == ("nonfinite_loss", 0)
    assert "Inf came into the loss beside the model's output" in first.summary
    assert "rows" not in first.summary
    assert "logarithm of 0" in first.causes[0]
    assert "target > 0" in first.remedies[0].code


def test_a_loop_by_hand_is_told_the_step_that_broke_and_not_the_weights_it_left(launched):
    (run,) = launched("log_by_hand.py").runs
    first = next(one for one in run.findings if one.kind.startswith("nonfinite"))
    assert (first.kind, first.step) == ("nonfinite_loss", 2)
    assert "aten.log" in first.summary


@pytest.mark.parametrize("mode", [(), ("--guard",)], ids=["watch", "guard"])
def test_a_root_at_0_in_the_first_step_which_nobody_listened_to(launched, mode):
    (run,) = launched("root_of_zero.py", *mode).runs
    first = run.findings[0]
    assert (first.kind, first.step) == ("nonfinite_gradient", 0)
    assert "SqrtBackward0" in first.summary
    assert "root" in first.causes[0]


def test_roots_at_0_that_do_no_harm_leave_the_explanations_for_a_loss_that_breaks_later(launched):
    (run,) = launched("root_left_out.py").runs
    first = run.findings[0]
    assert (first.kind, first.step) == ("nonfinite_loss", 20)
    assert "a factor of the loss" in first.summary


def test_a_root_that_does_no_harm_is_not_blamed_for_a_nan_that_a_clip_has_spread(launched):
    (run,) = launched("root_left_out_clip.py").runs
    assert run.findings[0].kind == "nonfinite_gradient"
    assert "Sqrt" not in run.findings[0].summary


def test_each_training_and_each_optimizer_of_one_loss_is_told_where_it_became_broken(launched):
    ended = launched("broken_twice.py")
    runs = ended.runs
    assert len(runs) == 5
    assert "of 2 models by 5 optimizers" in ended.closing
    assert [(run.findings[0].kind, run.findings[0].step) for run in runs] == [("nonfinite_input", 0)] * 5
    assert all("rows 4" in run.findings[0].summary or "row 4" in run.findings[0].summary for run in runs)


@pytest.mark.parametrize("mode", [(), ("--guard",)], ids=["watch", "guard"])
def test_a_script_that_dies_of_a_nan_which_its_loss_refuses(launched, plain, mode):
    ended, by_python = launched("bce_refuses.py", *mode), plain("bce_refuses.py")
    assert (ended.out, ended.code) == (by_python.out, by_python.code)
    assert ended.code == 1
    (finding,) = ended.runs[0].findings
    assert (finding.kind, finding.step) == ("nonfinite_input", 2)
    assert "batch row 5" in finding.summary
    assert "nonfinite_input at step 2" in ended.closing
