"""Coming and going: attach twice, close, copy, pickle, fork, forget."""

from __future__ import annotations

import copy
import gc
import io
import multiprocessing
import os
import pickle
import time
import weakref

import pytest
import torch
from tests.monitor.workloads import OPTIMIZERS, batches, bits, mlp, outcome, poisoned, seeded, step, train

import steadygrad as sg
from steadygrad.errors import UsageError
from steadygrad.runfile import open_run


def workload(name="SGD momentum"):
    model = seeded(mlp)
    return model, OPTIMIZERS[name](model.parameters())


def hook_count(model, optimizer):
    params = [param for param in model.parameters() if param._backward_hooks]
    return len(params), len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)


class TestClosing:
    @pytest.mark.parametrize("attach_it", [sg.watch, sg.guard])
    @pytest.mark.parametrize("steps", [0, 1, 5])
    def test_no_hook_is_left(self, attach_it, steps):
        model, optimizer = workload()
        monitor = attach_it(model, optimizer)
        assert hook_count(model, optimizer)[1] == 2
        train(model, optimizer, batches(steps))
        monitor.close()
        assert hook_count(model, optimizer) == (0, 0)
        assert monitor.closed
        monitor.close()

    def test_a_context_closes_on_the_way_out_of_an_error_too(self):
        model, optimizer = workload()
        with pytest.raises(KeyError, match="mine"), sg.guard(model, optimizer) as guard:  # noqa: PT012
            step(model, optimizer, batches(1)[0])
            raise KeyError("mine")
        assert guard.closed
        assert hook_count(model, optimizer) == (0, 0)

    def test_the_training_goes_on_unwatched(self):
        model, optimizer = workload()
        with sg.guard(model, optimizer) as guard:
            train(model, optimizer, batches(2))
        train(model, optimizer, batches(2))
        assert guard.counts.steps == 2

    def test_closing_inside_a_closure_puts_back_what_was_borrowed(self):
        model, optimizer = workload("SGD")
        guard = sg.guard(model, optimizer, policy=sg.policies.relative_update(1e-9))

        def closure():
            loss = model(batches(1)[0][0]).sum()
            loss.backward()
            guard.close()
            return loss

        optimizer.step(closure)
        assert optimizer.param_groups[0]["lr"] == 0.01
        assert hook_count(model, optimizer) == (0, 0)

    def test_clipping_with_a_closed_guard_is_an_error(self):
        model, optimizer = workload()
        guard = sg.guard(model, optimizer)
        guard.close()
        with pytest.raises(UsageError, match="closed"):
            guard.clip_()


class TestAttachingAgain:
    @pytest.mark.parametrize("attach_it", [sg.watch, sg.guard])
    def test_twice_gives_the_same_and_counts_once(self, attach_it, capsys):
        model, optimizer = workload()
        first = attach_it(model, optimizer)
        assert attach_it(model, optimizer) is first
        assert "already attached" in capsys.readouterr().err
        step(model, optimizer, batches(1)[0])
        assert first.counts.steps == 1

    def test_a_guard_replaces_a_watch(self):
        model, optimizer = workload()
        monitor = sg.watch(model, optimizer)
        guard = sg.guard(model, optimizer)
        assert guard is not monitor
        assert monitor.closed
        step(model, optimizer, batches(1)[0])
        assert (monitor.counts.steps, guard.counts.steps) == (0, 1)
        assert hook_count(model, optimizer)[1] == 2

    def test_a_watch_does_not_replace_a_guard(self):
        model, optimizer = workload()
        guard = sg.guard(model, optimizer)
        assert sg.watch(model, optimizer) is guard

    def test_after_closing_a_new_one_is_made(self):
        model, optimizer = workload()
        first = sg.guard(model, optimizer)
        first.close()
        second = sg.guard(model, optimizer)
        assert second is not first
        step(model, optimizer, batches(1)[0])
        assert second.counts.steps == 1

    def two(self):
        model = seeded(mlp)
        return model, *(torch.optim.SGD(model[i].parameters(), lr=0.1) for i in (0, 2))

    @pytest.mark.parametrize("attach_it", [sg.watch, sg.guard])
    def test_one_of_several_that_is_taken_is_an_error_and_changes_nothing(self, attach_it):
        model, first, second = self.two()
        present = attach_it(model, first)
        with pytest.raises(UsageError, match=r"only to 1 of these 2 optimizers.*close\(\)") as caught:
            attach_it(model, [second, first])
        assert attach_it.__name__ in str(caught.value)
        assert not present.closed
        assert not second._optimizer_step_pre_hooks
        present.close()
        assert not attach_it(model, [first, second]).closed

    def test_a_part_of_what_a_guard_has_is_an_error(self):
        model, first, second = self.two()
        guard = sg.guard(model, [first, second])
        with pytest.raises(UsageError, match="together with other optimizers"):
            sg.guard(model, first)
        assert sg.guard(model, [second, first]) is guard

    def test_two_guards_are_not_one(self):
        model, first, second = self.two()
        sg.guard(model, first)
        sg.guard(model, second)
        with pytest.raises(UsageError, match="already attached"):
            sg.guard(model, [first, second])

    def test_a_guard_replaces_watches_on_some_of_its_optimizers(self):
        model, first, second = self.two()
        monitor = sg.watch(model, second)
        guard = sg.guard(model, [first, second])
        assert monitor.closed
        assert not guard.closed

    def test_another_policy_is_an_error_and_the_same_is_not(self):
        model, optimizer = workload()
        guard = sg.guard(model, optimizer, policy=sg.policies.clip_norm(1.0))
        assert sg.guard(model, optimizer, policy=sg.policies.clip_norm(1.0)) is guard
        assert sg.guard(model, optimizer) is guard
        with pytest.raises(UsageError, match="with another policy"):
            sg.guard(model, optimizer, policy=sg.policies.clip_norm(2.0))

    @pytest.mark.parametrize(
        ("first", "other"),
        [(None, False), (True, False), (False, True), (True, sg.recover.rollback(every=7))],
    )
    def test_another_recovery_is_an_error_and_the_same_is_not(self, first, other):
        model, optimizer = workload()
        guard = sg.guard(model, optimizer, recover=first)
        assert sg.guard(model, optimizer, recover=first) is guard
        assert sg.guard(model, optimizer) is guard
        with pytest.raises(UsageError, match="recover="):
            sg.guard(model, optimizer, recover=other)

    def test_recovery_by_default_is_what_true_asks_for(self):
        model, optimizer = workload()
        assert sg.guard(model, optimizer, recover=True) is sg.guard(model, optimizer)

    def test_another_run_is_an_error_and_the_same_is_not(self, tmp_path):
        model, optimizer = workload()
        guard = sg.guard(model, optimizer, run=tmp_path / "a.steady")
        assert sg.guard(model, optimizer, run=str(tmp_path / "a.steady")) is guard
        with pytest.raises(UsageError, match="run="):
            sg.guard(model, optimizer, run=tmp_path / "b.steady")
        with pytest.raises(UsageError, match="run="):
            sg.watch(model, optimizer, run=tmp_path / "b.steady")
        assert [path.name for path in tmp_path.glob("*.steady")] == ["a.steady"]

    @pytest.mark.parametrize("with_optimizer", [True, False])
    def test_one_that_nobody_holds_can_be_found_and_closed(self, with_optimizer):
        model, optimizer = workload()
        targets = (model, optimizer) if with_optimizer else (model,)
        kept = [sg.guard(*targets, policy=sg.policies.clip_norm(1.0))]
        with pytest.raises(UsageError, match="where nobody holds it"):
            sg.guard(*targets, policy=sg.policies.zclip())
        sg.guard(*targets).close()
        kept.append(sg.guard(*targets, policy=sg.policies.zclip()))
        assert repr(kept[-1].policy).startswith("zclip")

    def test_one_policy_given_to_two_guards_is_not_shared(self):
        policy = sg.policies.zclip()
        (model, optimizer), (other, other_optimizer) = workload(), workload()
        guard, idle = (
            sg.guard(model, optimizer, policy=policy),
            sg.guard(other, other_optimizer, policy=policy),
        )
        train(model, optimizer, batches(8))
        assert guard.policy is not idle.policy
        assert guard.policy.state_dict()["tally"] != idle.policy.state_dict()["tally"]
        assert policy.state_dict()["tally"] == idle.policy.state_dict()["tally"]

    def test_a_loop_without_optimizer_is_known_by_its_model(self):
        model = seeded(mlp)
        guard = sg.guard(model)
        assert sg.guard(model) is guard

    def test_many_times_on_and_off_leaves_nothing(self):
        model, optimizer = workload()
        for _ in range(50):
            with sg.guard(model, optimizer):
                step(model, optimizer, batches(1)[0])
        assert hook_count(model, optimizer) == (0, 0)


class TestCopies:
    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
    def test_a_watched_model_and_its_optimizer_can_be_copied(self, duplicate):
        model, optimizer = workload("AdamW")
        guard = sg.guard(model, optimizer)
        train(model, optimizer, batches(1))
        twin, twin_optimizer = duplicate((model, optimizer))
        assert outcome(twin, twin_optimizer) == outcome(model, optimizer)
        train(twin, twin_optimizer, batches(3))
        assert guard.counts.steps == 1
        assert hook_count(twin, twin_optimizer) == (0, 0)

    def test_a_model_that_carries_its_guard_can_be_saved_and_copied(self):
        model, optimizer = workload()
        model.guard = sg.guard(model, optimizer)
        assert copy.deepcopy(model).guard is model.guard
        buffer = io.BytesIO()
        torch.save(model, buffer)
        buffer.seek(0)
        loaded = torch.load(buffer, weights_only=False)
        assert loaded.guard is None
        assert bits(loaded.state_dict()) == bits(model.state_dict())

    def test_state_dicts_know_nothing_of_us(self):
        model, optimizer = workload("AdamW")
        plain, without = workload("AdamW")
        guard = sg.guard(model, optimizer)
        train(model, optimizer, batches(3))
        train(plain, without, batches(3))
        assert outcome(model, optimizer) == outcome(plain, without)
        optimizer.load_state_dict(without.state_dict())
        train(model, optimizer, batches(1))
        assert guard.counts.steps == 4


class TestForgetting:
    @pytest.mark.parametrize("steps", [0, 3])
    def test_model_and_optimizer_are_collected_with_their_guard(self, steps):
        model, optimizer = workload()
        guard = sg.guard(model, optimizer)
        train(model, optimizer, batches(steps))
        gone = [weakref.ref(one) for one in (model, optimizer, guard)]
        del model, optimizer, guard
        gc.collect()
        assert [one() for one in gone] == [None, None, None]

    def test_a_recorded_run_keeps_nothing_alive_and_is_finished(self, tmp_path):
        model, optimizer = workload()
        guard = sg.guard(model, optimizer, run=tmp_path / "a.steady")
        train(model, optimizer, batches(3))
        gone = [weakref.ref(one) for one in (model, optimizer, guard, model[0].weight)]
        del model, optimizer, guard
        gc.collect()
        assert [one() for one in gone] == [None] * 4
        deadline = time.monotonic() + 10
        while not (run := open_run(tmp_path / "a.steady")).finished and time.monotonic() < deadline:
            time.sleep(0.02)
        assert run.finished
        assert run.steps.tolist() == [0, 1, 2]

    def test_the_optimizer_is_collected_while_the_guard_is_held(self):
        model, optimizer = workload()
        guard = sg.guard(model, optimizer)
        train(model, optimizer, batches(2))
        gone = weakref.ref(optimizer)
        del optimizer
        gc.collect()
        assert gone() is None
        assert guard.counts.steps == 2
        assert guard.summary()
        guard.close()

    def test_a_guard_that_nobody_holds_goes_on_working(self):
        model, optimizer = workload()
        sg.guard(model, optimizer)
        gc.collect()
        optimizer.zero_grad()
        for param in model.parameters():
            param.grad = torch.full_like(param, float("nan"))
        before = bits(model.state_dict())
        optimizer.step()
        assert bits(model.state_dict()) == before


def fork_and_train(path):
    model, optimizer = workload()
    guard = sg.guard(model, optimizer, run=path)
    stream = batches(6)
    train(model, optimizer, stream[:3])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(model, optimizer, stream[3:])
            guard.close()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    train(model, optimizer, stream[3:])
    guard.close()


def test_a_forked_child_trains_on_and_the_parents_run_stays_whole(tmp_path):
    # In a process of its own: a backward pass within another, in an earlier test, starts threads of torch's, and then no fork of it trains.
    alone = multiprocessing.get_context("spawn").Process(target=fork_and_train, args=(tmp_path / "a.steady",))
    alone.start()
    alone.join()
    assert alone.exitcode == 0
    with open_run(tmp_path / "a.steady") as run:
        assert run.steps.tolist() == [0, 1, 2, 3, 4, 5]
        assert run.finished


def test_repr_tells_mode_and_counts():
    model, optimizer = workload()
    guard = sg.guard(model, optimizer)
    train(model, optimizer, batches(2))
    assert repr(guard) == "<steadygrad guard: 2 steps, 0 findings>"
    assert isinstance(guard, sg.Monitor)


class TestNothingSeen:
    @pytest.mark.parametrize(
        ("with_optimizer", "words"),
        [(True, "no optimizer step was seen"), (False, "clip_() was never called")],
    )
    def test_closing_says_so(self, with_optimizer, words, capsys):
        model, optimizer = workload()
        guard = sg.guard(model, optimizer if with_optimizer else None)
        guard.close()
        guard.close()
        assert capsys.readouterr().err.count(words) == 1

    def test_after_a_step_it_says_nothing(self, capsys):
        model, optimizer = workload()
        with sg.watch(model, optimizer):
            train(model, optimizer, batches(1))
        assert capsys.readouterr().err == ""

    def test_a_watch_that_is_replaced_and_a_loop_that_failed_say_nothing(self, capsys):
        model, optimizer = workload()
        sg.watch(model, optimizer)
        with pytest.raises(KeyError), sg.guard(model, optimizer):
            raise KeyError
        assert capsys.readouterr().err == ""


def test_a_stop_is_one_short_line_and_the_record_holds_all_of_it(capsys, tmp_path):
    model, optimizer = workload()
    guard = sg.guard(model, optimizer, max_consecutive_skips=1, run=tmp_path / "a.steady")
    with pytest.raises(sg.errors.TrainingStopped):
        train(model, optimizer, [poisoned(batches(1)[0])])
    guard.close()
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "stop:" in line)
    assert "had non-finite gradients" in line
    assert "All of them were skipped" not in line
    with open_run(tmp_path / "a.steady") as run:
        (stop,) = (incident for incident in run.incidents if incident.action == "stop")
    assert "All of them were skipped" in stop.reason
