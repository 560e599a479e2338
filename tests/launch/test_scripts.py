"""Whole scripts: the same output, the right names, losses and norms, with nothing changed in them."""

from __future__ import annotations

import numpy as np
import pytest

LSTM = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]


def names(run):
    return [tensor.name for tensor in run.info.tensors]


@pytest.mark.parametrize(
    ("script", "args"),
    [
        ("word_language_model.py", ()),
        ("gan.py", ()),
        ("lbfgs.py", ()),
        ("amp.py", ()),
        ("amp.py", ("--scale",)),
        ("trainer_class.py", ()),
        ("from_scratch.py", ()),
        ("in_turn.py", ()),
        ("saliency.py", ()),
        ("exports.py", ()),
    ],
)
def test_a_healthy_script_prints_the_same_bits_watched_and_guarded(plain, launched, script, args):
    expected = plain(script, args)
    assert expected.code == 0, expected.err
    for ours in ([], ["--guard"]):
        ended = launched(script, *ours, args=args)
        assert ended.out == expected.out
        assert (ended.code, len(ended.err.splitlines())) == (0, 1), ended.err


def test_an_rnn_that_updates_by_hand_and_clips(launched):
    ended = launched("word_language_model.py", "--guard", args=["--epochs", "2"])
    (run,) = ended.runs
    assert names(run) == ["encoder.weight", *(f"rnn.{n}" for n in LSTM), "decoder.weight", "decoder.bias"]
    assert (run.info.model, run.info.optimizers, len(run.steps)) == ("RNNModel", (), 20)
    assert "guarded 20 steps of RNNModel, nothing found" in ended.closing
    sums = [np.sum(run.scalars("loss")[1][:10]), np.sum(run.scalars("loss")[1][10:])]
    np.testing.assert_allclose(sums, ended.losses(), rtol=1e-5)


def test_a_clip_is_told_with_the_norm_before_and_after(launched):
    (run,) = launched("word_language_model.py").runs
    before, after = (run.scalars(f"total_norm {when} clip")[1] for when in ("before", "after"))
    np.testing.assert_allclose(after, np.minimum(before, 0.25), rtol=1e-4)
    np.testing.assert_allclose(run.total_norm, before, rtol=1e-3)
    assert before.max() > 0.3


def test_a_gan_has_a_run_for_each_network(launched):
    ended = launched("gan.py")
    critic, generator = ended.runs
    assert (critic.info.model, generator.info.model) == ("Discriminator", "Generator")
    assert names(generator) == ["main.0.weight", "main.0.bias", "main.2.weight", "main.2.bias"]
    np.testing.assert_allclose(critic.scalars("loss")[1], ended.losses("loss_D"), rtol=1e-6)
    np.testing.assert_allclose(generator.scalars("score")[1], ended.losses("loss_G"), rtol=1e-6)


def test_lbfgs_has_the_loss_at_the_start_of_each_step(launched):
    ended = launched("lbfgs.py")
    (run,) = ended.runs
    assert len(run.steps) == 6
    np.testing.assert_allclose(run.scalars("loss")[1], ended.losses(), rtol=1e-6)


@pytest.mark.parametrize("args", [(), ("--scale",), ("--scale", "--no-clip")])
def test_amp_has_the_loss_without_its_scale(launched, args):
    ended = launched("amp.py", args=args)
    (run,) = ended.runs
    printed = np.reshape(ended.losses(), (-1, 2)).sum(1)
    assert run.scalars("loss")[0].tolist() == list(range(len(printed)))
    np.testing.assert_allclose(run.scalars("loss")[1], printed, rtol=1e-4)
    # The first scales overflow, which is no fault.
    assert run.overflow[0] == bool(args)
    assert ("left out by the loss scaler), nothing found" in ended.closing) == bool(args)
    assert "nothing found" in ended.closing


def test_workers_of_a_data_loader_are_left_alone(plain, launched):
    ended = launched("spawn_loader.py")
    assert ended.out == plain("spawn_loader.py").out
    assert "armed 1" not in ended.out
    assert "elsewhere False" not in ended.out
    (run,) = ended.runs
    assert len(run.steps) == 6


def test_two_networks_under_one_optimizer_are_named_by_their_variables(launched):
    ended = launched("trainer_class.py")
    (run,) = ended.runs
    assert names(run)[:2] == ["backbone.stem.weight", "backbone.stem.bias"]
    assert names(run)[-2:] == ["head.weight", "head.bias"]
    assert len(run.steps) == 16
    np.testing.assert_allclose(run.scalars("total_norm before clip")[1], ended.losses("norm"), rtol=1e-4)


def test_a_poisoned_batch_ruins_a_watched_run_and_costs_a_guarded_one_a_step(launched):
    watched = launched("trainer_class.py", args=["--poison", "9"])
    assert watched.out.splitlines()[-1] == "weights nan"
    assert " at step 4" in watched.closing
    guarded = launched("trainer_class.py", "--guard", args=["--poison", "9"])
    (run,) = [run for run in guarded.runs if run.info.mode == "guard"]
    assert len(run.steps) == 16
    assert np.isfinite(np.delete(run.total_norm, 4)).all()
    assert "(1 skipped)" in guarded.closing


def test_tensors_without_a_module_are_named_by_their_variables(launched):
    ended = launched("from_scratch.py")
    (run,) = ended.runs
    assert sorted(names(run)) == ["b1", "w1", "w2"]
    assert len(run.steps) == 20


def test_models_in_turn_have_a_run_each(launched):
    ended = launched("in_turn.py")
    assert [len(run.steps) for run in ended.runs] == [3, 3, 3, 3]
    assert {tuple(names(run)) for run in ended.runs} == {
        ("first.weight", "first.bias", "last.weight", "last.bias")
    }
    assert "2 models by 4 optimizers" in ended.closing


def test_compiled_models_and_steps_and_checkpointing(launched):
    # The compiler warns by itself, of the loss that the step returns.
    ended = launched("compiled.py", env={"PYTHONWARNINGS": ""})
    assert ended.code == 0, ended.err
    assert [len(run.steps) for run in ended.runs] == [4, 4]
    assert {tuple(names(run)) for run in ended.runs} == {
        ("inner.weight", "inner.bias", "outer.weight", "outer.bias")
    }


def test_gradients_without_training_leave_no_run(launched):
    ended = launched("saliency.py")
    assert "changed no parameter: nothing was trained" in ended.closing
    assert ended.runs == []


def test_a_script_that_attaches_for_itself_keeps_its_monitor(launched):
    ended = launched("watches_itself.py")
    assert ended.runs == []
    assert ended.out.startswith("6 ")
    assert "guarded 6 steps of Linear" in ended.closing


def test_the_first_of_two_monitors_stays(launched):
    ended = launched("watches_itself.py", "--guard", args=["--late"])
    assert ended.out.startswith("6 ")
    assert "already attached here; that one is returned" in ended.err
    (run,) = ended.runs
    assert (run.info.mode, len(run.steps)) == ("guard", 6)
