"""Bundles of incidents in real trainings: what they hold, how much, and that they never stop a training."""

from __future__ import annotations

import gc
import json
import math
import sys
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.monitor.workloads import MODELS, OPTIMIZERS, attach, batches, bits, mlp, poisoned, seeded
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import steadygrad as sg
from steadygrad.bundles import bundles_folder, bundles_of
from steadygrad.errors import NonfiniteStreak, RecoveryFailed, UsageError
from steadygrad.records import Reading
from steadygrad.recover import bundles, rollback
from steadygrad.recover.evidence import readings_as_values, readings_from_values
from steadygrad.recover.plain_values import lacks, plain, rebuilt

BAD = 40


class Run:
    """A small training under a guard with a run file."""

    def __init__(self, folder, make=mlp, name="Adam", *, late=False, plan=None, **options):
        self.path = folder / "first.steady"
        self.model = seeded(make)
        self.optimizer = OPTIMIZERS[name](self.model.parameters())
        plan = plan or rollback(every=10)
        self.guard = attach(
            "guard", self.model, self.optimizer, run=self.path, late=late, recover=plan, **options
        )
        self.stream = iter(batches(1000))

    def go(self, steps, change=lambda batch: batch):
        for _ in range(steps):
            x, y = change(next(self.stream))
            self.optimizer.zero_grad()
            loss = nn.functional.mse_loss(self.model(x), y)
            loss.backward()
            self.guard.log(loss=loss)
            self.optimizer.step()

    def ends(self):
        self.guard.close()
        assert not self.guard._logbook.faults
        return bundles_of(self.path)


def read(bundle, name):
    return torch.load(bundle.path / name, weights_only=True)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_skipped_step_leaves_its_batch_and_the_state_that_met_it(tmp_path, make):
    run = Run(tmp_path, make)
    run.go(BAD)
    before = bits([one.detach().clone() for one in run.model.parameters()])
    moments = bits([entry["exp_avg"].clone() for entry in run.optimizer.state.values()])
    x, _ = poisoned(batches(BAD + 1)[-1])
    run.go(1, poisoned)
    run.go(5)
    (bundle,) = run.ends()
    assert (bundle.step, bundle.action, bundle.path.name) == (BAD, "skip", f"step-{BAD:06d}")
    assert bundle.path.parent == tmp_path / "first.incidents"
    step, state = read(bundle, "step.pt"), read(bundle, "state.pt")
    assert bits(step["calls"][0]["args"]) == bits([x])
    assert bits(list(state["params"].values())) == before
    assert list(state["params"]) == [name for name, _ in run.model.named_parameters()]
    kept = state["optimizers"][0]
    assert bits([kept["state_dict"]["state"][i]["exp_avg"] for i in range(len(before))]) == moments
    assert bundle.facts["steps_ahead"] == 0
    assert bundle.facts["origin"]["rows"] == [3]
    assert [one["kind"] for one in bundle.facts["findings"]] == ["nonfinite_input"]
    assert set(bundle.facts["versions"]) >= {"python", "torch", "numpy", "steadygrad"}
    assert bundle.facts["state_left_out"] == bundle.facts["batch_left_out"] == ""


def test_a_streak_leaves_one_bundle_and_its_end_another(tmp_path):
    run = Run(tmp_path, plan=None, max_skips=4)
    run.go(BAD)
    with pytest.raises(NonfiniteStreak):
        run.go(9, poisoned)
    found = bundles_of(run.path)
    assert [(one.step, one.action) for one in found] == [(BAD, "skip"), (BAD + 3, "stop")]
    run.ends()


def test_a_rollback_leaves_the_ruined_state(tmp_path):
    run = Run(tmp_path)
    run.go(BAD)
    run.model[0].weight.data[0, 0] = math.nan
    run.go(30)
    (bundle,) = run.ends()
    assert bundle.action == "rollback"
    assert "back to the state of step" in bundle.facts["reason"]
    weight = read(bundle, "state.pt")["params"]["0.weight"]
    assert math.isnan(weight[0, 0])
    assert all(bool(torch.isfinite(one).all()) for one in run.model.parameters())


def test_a_rollback_for_the_loss_leaves_the_state_before_its_step(tmp_path):
    run = Run(tmp_path, name="SGD momentum")
    run.go(100)
    for param in run.model.parameters():
        param.data += 2.0
    run.go(40, lambda batch: (batch[0], batch[1] - 100.0))
    bundle = next(one for one in run.ends() if one.action == "rollback")
    assert "divergence" in bundle.facts["reason"]
    assert bundle.facts["steps_ahead"] == 0
    model = mlp()
    state, step = read(bundle, "state.pt"), read(bundle, "step.pt")
    model.load_state_dict(state["params"])
    x = step["calls"][0]["args"][0]
    target = next(y - 100.0 for raw, y in batches(1000) if torch.equal(raw, x))
    loss = nn.functional.mse_loss(model(x), target)
    assert float(loss.detach()) == pytest.approx(bundle.facts["loss"], rel=1e-5)


def test_a_run_that_is_stopped_leaves_a_bundle(tmp_path):
    run = Run(tmp_path, plan=rollback(every=10, max_rollbacks=1))
    run.go(BAD)

    def ruin_again_and_again():
        for _ in range(10):
            run.model[0].weight.data[0, 0] = math.nan
            run.go(3)

    with pytest.raises(RecoveryFailed):
        ruin_again_and_again()
    assert bundles_of(run.path)[-1].action == "stop"
    run.ends()


def test_on_an_accelerators_path_it_is_the_batch_of_the_step_and_not_of_the_next(tmp_path):
    run = Run(tmp_path, late=True)
    run.go(BAD)
    x, _ = poisoned(batches(BAD + 1)[-1])
    run.go(1, poisoned)
    run.go(5)
    (bundle,) = run.ends()
    assert (bundle.step, bundle.facts["steps_ahead"]) == (BAD, 1)
    assert bits(read(bundle, "step.pt")["calls"][0]["args"]) == bits([x])


def test_micro_batches_are_all_there(tmp_path):
    run = Run(tmp_path)
    run.go(BAD)
    parts = [poisoned(batch) for batch in batches(3, seed=9)]
    for x, y in parts:
        nn.functional.mse_loss(run.model(x), y).backward()
    run.optimizer.step()
    (bundle,) = run.ends()
    calls = read(bundle, "step.pt")["calls"]
    assert bits([one["args"][0] for one in calls]) == bits([x for x, _ in parts])


@pytest.mark.parametrize("state", [None, False])
def test_what_does_not_fit_is_left_out_and_told(tmp_path, state):
    limit = 1_000 if state is None else 10_000_000
    run = Run(tmp_path, plan=rollback(every=10, bundles=bundles(max_bytes=limit, state=state)))
    run.go(BAD)
    run.go(1, poisoned)
    (bundle,) = run.ends()
    assert not (bundle.path / "state.pt").exists()
    assert bundle.facts["state_left_out"]
    assert "steadygrad replay" in bundle.command


def test_the_oldest_makes_room(tmp_path):
    run = Run(tmp_path, plan=rollback(every=10, bundles=bundles(max_bytes=60_000)))
    for _ in range(6):
        run.go(10)
        run.go(1, poisoned)
        run.guard._logbook.witness.close()
    found = run.ends()
    assert found
    assert found[-1].step == 65
    assert found[0].step > 10
    assert sum(path.stat().st_size for one in found for path in one.path.iterdir()) <= 60_000


def test_no_more_than_so_many(tmp_path):
    run = Run(tmp_path, plan=rollback(every=10, bundles=bundles(most=4)))
    for _ in range(6):
        run.go(10)
        run.go(1, poisoned)
    assert len(run.ends()) == 2


def test_the_environment_switches_it_off(tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYGRAD_INCIDENTS_MB", "0")
    run = Run(tmp_path)
    run.go(1, poisoned)
    assert run.ends() == []
    assert not bundles_folder(run.path).exists()
    monkeypatch.setenv("STEADYGRAD_INCIDENTS_MB", "much")
    with pytest.raises(UsageError, match="much"):
        Run(tmp_path)


def test_nothing_is_written_without_a_run_file_nor_by_a_watch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for mode, path in (("guard", None), ("watch", "a.steady")):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["Adam"](model.parameters())
        with attach(mode, model, optimizer, run=path):
            nn.functional.mse_loss(model(batches(1)[0][0] * math.nan), batches(1)[0][1]).backward()
            optimizer.step()
    assert list(tmp_path.glob("**/*.incidents")) == []


def test_a_place_that_cannot_be_written_ends_the_bundles_and_not_the_run(tmp_path, capfd):
    run = Run(tmp_path)
    (tmp_path / "first.incidents").write_text("in the way")
    run.go(BAD)
    run.go(1, poisoned)
    run.guard._logbook.witness.close()
    run.go(5)
    run.go(1, poisoned)
    assert run.ends() == []
    said = [line for line in capfd.readouterr().err.splitlines() if "incident bundles" in line]
    assert len(said) == 1
    assert "The training and its run file go on." in said[0]


def large():
    return nn.Sequential(nn.Linear(6, 600), nn.Linear(600, 600), nn.Linear(600, 1))


@pytest.mark.skipif(sys.platform != "linux", reason="the limit stands for a full disk")
def test_a_full_disk_leaves_no_half_of_a_bundle(tmp_path, capfd):
    import resource

    run = Run(tmp_path, large, "SGD")
    run.go(2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
        run.go(1, poisoned)
        run.guard._logbook.witness.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    run.go(2)
    assert run.ends() == []
    assert list(bundles_folder(run.path).iterdir()) == []
    assert "no more incident bundles" in capfd.readouterr().err


def test_the_target_is_there_where_it_is_told(tmp_path):
    current = {}
    run = Run(tmp_path, late=True, plan=rollback(every=10, bundles=bundles(batch=lambda: current["batch"])))

    def told(batch):
        current["batch"] = batch
        return batch

    run.go(BAD, told)
    bad = poisoned(batches(BAD + 1)[-1])
    run.go(1, lambda batch: told(poisoned(batch)))
    run.go(3, told)
    (bundle,) = run.ends()
    assert bits(list(read(bundle, "step.pt")["given"])) == bits(list(bad))


def test_a_guard_with_bundles_keeps_no_model_alive(tmp_path):
    run = Run(tmp_path)
    run.go(5)
    run.go(1, poisoned)
    model = weakref.ref(run.model)
    run.ends()
    del run
    gc.collect()
    assert model() is None


def test_bundles_of_an_earlier_run_of_that_name_are_not_this_runs(tmp_path):
    first = Run(tmp_path)
    first.go(1, poisoned)
    assert len(first.ends()) == 1
    first.path.unlink()
    second = Run(tmp_path)
    second.go(2)
    second.go(1, poisoned)
    found = second.ends()
    started = sg.open_run(second.path).info.started
    assert [one.step for one in bundles_of(second.path, started)] == [2]
    assert len(found) == 2


def test_what_is_no_bundle_is_passed_over(tmp_path):
    folder = tmp_path / "a.incidents"
    (folder / "step-000001").mkdir(parents=True)
    (folder / "step-000002").mkdir()
    (folder / "step-000002" / "incident.json").write_text("{")
    (folder / "step-000003").mkdir()
    (folder / "step-000003" / "incident.json").write_text(json.dumps({"format": 99, "step": 3}))
    assert bundles_of(tmp_path / "a.steady") == []


@pytest.mark.parametrize(
    "value",
    [
        {"x": torch.ones(2), "n": [1, 2.5, "a", None, True], 3: (1, 2)},
        [torch.zeros(0), torch.Size([1, 2]), torch.float16, torch.device("cpu")],
        {"deep": [{"er": (torch.arange(3),)}]},
    ],
)
def test_plain_values_come_back_as_they_were(value, tmp_path):
    torch.save(plain(value), tmp_path / "a.pt")
    back = rebuilt(torch.load(tmp_path / "a.pt", weights_only=True))
    assert bits(back) == bits(value)
    assert lacks(plain(value)) == []


def test_packed_sequences_come_back():
    packed = pack_sequence([torch.randn(3, 2), torch.randn(2, 2)])
    back = rebuilt(plain(packed))
    assert type(back) is type(packed)
    assert bits(list(back)) == bits(list(packed))


def test_what_cannot_be_kept_is_named():
    assert lacks(plain({"f": [len, object()]})) == ["builtin_function_or_method", "object"]


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=3), elements=st.floats(width=32)))
def test_arrays_come_back_bit_by_bit(array):
    back = rebuilt(plain(array))
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@given(
    st.lists(
        st.tuples(st.floats(width=32), st.booleans(), st.none() | st.floats(), st.integers(1, 3)),
        min_size=1,
        max_size=5,
    )
)
def test_readings_come_back_as_they_were(rows):
    readings = [
        Reading(step, np.full(size, norm, np.float32), norm, skipped=skipped, loss=loss)
        for step, (norm, skipped, loss, size) in enumerate(rows)
    ]
    (columns,) = readings_as_values(readings)
    back = readings_from_values(columns)
    for one, other in zip(readings, back, strict=True):
        assert repr(one.total_norm) == repr(other.total_norm)
        assert one.norms.tobytes() == other.norms.tobytes()
        assert (one.step, one.skipped, one.absent) == (other.step, other.skipped, other.absent)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"max_bytes": -1}, "max_bytes=-1"),
        ({"most": 0}, "most=0"),
        ({"most": True}, "most=True"),
        ({"batch": 3}, "batch=lambda"),
    ],
)
def test_wrong_arguments_have_their_sentence(arguments, told):
    with pytest.raises(UsageError, match=told):
        bundles(**arguments)


def test_a_rollback_takes_bundles_and_nothing_else():
    with pytest.raises(UsageError, match=r"expected sg\.recover\.bundles"):
        rollback(bundles={"most": 3})
