"""Numbers the user logs, the summary, and the record of several optimizers in one run."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
import torch
from tests.monitor.workloads import OPTIMIZERS, attach, batches, mlp, poisoned, seeded, train
from torch import nn

import steadygrad as sg
from steadygrad.errors import UsageError
from steadygrad.report import write_csv
from steadygrad.runfile import open_run
from steadygrad.scalars import Scalars


def log_of(calls):
    """What `Scalars` emits for (steps made, value) calls, and the losses it returns."""
    emitted, returned = [], []
    scalars = Scalars(lambda step, name, value: emitted.append((step, name, value)))
    for steps_done, value in calls:
        steps_made = (steps_done,) if isinstance(steps_done, int) else steps_done
        returned.append(scalars.log(steps_made, {"loss": value}))
    scalars.deliver()
    return emitted, returned


class TestScalars:
    def test_logged_before_the_step_it_belongs_to_the_coming_one(self):
        emitted, returned = log_of([(0, 1.0), (1, 2.0)])
        assert emitted == [(0, "loss", 1.0), (1, "loss", 2.0)]
        assert returned == [1.0, 2.0]

    def test_logged_after_the_step_it_belongs_to_the_one_just_made(self):
        emitted, returned = log_of([(1, 1.0), (2, 2.0)])
        assert emitted == [(0, "loss", 1.0), (1, "loss", 2.0)]
        assert returned == [None, None]

    @pytest.mark.parametrize(
        "value",
        [
            2,
            np.float32(2.0),
            torch.tensor(2.0),
            torch.tensor([[2.0]]),
            torch.tensor(2, dtype=torch.int64),
            torch.tensor(2.0, requires_grad=True) * 1.0,
            torch.tensor(2.0, dtype=torch.bfloat16),
        ],
        ids=str,
    )
    def test_every_kind_of_single_number(self, value):
        assert log_of([(0, value)])[0] == [(0, "loss", 2.0)]

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_nonfinite_numbers_pass(self, value):
        np.testing.assert_equal(log_of([(0, value)])[0], [(0, "loss", value)])

    @pytest.mark.parametrize(
        ("made", "steps"),
        [
            pytest.param([(0, 0), (1, 1), (2, 2)], [0, 1, 2], id="before both"),
            pytest.param([(1, 0), (2, 1), (3, 2)], [0, 1, 2], id="between"),
            pytest.param([(0, 1), (1, 2), (2, 3)], [0, 1, 2], id="between, the second steps first"),
            pytest.param([(1, 1), (2, 2), (3, 3)], [0, 1, 2], id="after both"),
            pytest.param([(1, 0), (2, 0), (3, 1)], [0, 1, 2], id="one steps more often"),
        ],
    )
    def test_two_optimizers(self, made, steps):
        assert [step for step, _, _ in log_of([(one, 1.0) for one in made])[0]] == steps

    def test_every_name_has_its_own_place(self):
        emitted = []
        scalars = Scalars(lambda *point: emitted.append(point))
        scalars.log((0,), {"before": 1.0})
        for made in (1, 2):
            scalars.log((made,), {"loss": 2.0})
            scalars.log((made,), {"before": 1.0})
        assert [step for step, name, _ in emitted if name == "before"] == [0, 1, 2]
        assert [step for step, name, _ in emitted if name == "loss"] == [0, 1]

    def test_a_resumed_run_does_not_take_its_first_step_for_made(self):
        emitted = []
        scalars = Scalars(lambda *point: emitted.append(point))
        scalars.resume(100)
        scalars.log((100,), {"loss": 1.0})
        assert emitted == [(100, "loss", 1.0)]

    def test_a_call_that_is_refused_records_nothing(self):
        emitted = []
        scalars = Scalars(lambda *point: emitted.append(point))
        with pytest.raises(UsageError):
            scalars.log((0,), {"good": 1.0, "bad": "x"})
        assert emitted == []

    @pytest.mark.parametrize(
        "value",
        [torch.ones(2), torch.empty(0), "two", None, [1.0], 10**400, 1j, torch.tensor(1j)],
        ids=lambda v: str(v)[:9],
    )
    def test_anything_else_is_an_error_that_names_it(self, value):
        with pytest.raises(UsageError, match=r"log\(loss="):
            log_of([(0, value)])


def test_a_logged_loss_is_in_the_reading_of_its_step():
    model = seeded(mlp)
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    monitor = attach("watch", model, optimizer)
    for i, batch in enumerate(batches(3)):
        monitor.log(loss=torch.tensor(float(i)), other=5)
        train(model, optimizer, [batch])
    assert [reading.loss for reading in monitor.recent] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("late", [False, True], ids=["host", "late"])
def test_a_loss_logged_after_the_step_reaches_reading_run_and_table(tmp_path, late):
    model = seeded(mlp)
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    monitor = attach("watch", model, optimizer, run=tmp_path / "a.steady", late=late)
    for i, batch in enumerate(batches(3)):
        train(model, optimizer, [batch])
        monitor.log(loss=float(i), other=5.0 + i)
        assert monitor.last.loss == i
    monitor.close()
    assert [reading.loss for reading in monitor.recent] == [0.0, 1.0, 2.0]
    with open_run(monitor.run) as run:
        assert run.loss.tolist() == [0.0, 1.0, 2.0]
        assert run.loss_logged.all()
        table = io.StringIO()
        write_csv(run, table)
    rows = list(csv.DictReader(table.getvalue().splitlines()))
    assert [float(row["loss"]) for row in rows] == [0.0, 1.0, 2.0]
    assert [float(row["scalar/other"]) for row in rows] == [5.0, 6.0, 7.0]


@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_a_loss_reaches_the_steps_of_both_optimizers(tmp_path, place):
    model = seeded(mlp)
    optimizers = [torch.optim.SGD(model[i].parameters(), lr=0.1) for i in (0, 2)]
    monitor = attach("watch", model, optimizers, run=tmp_path / "a.steady")
    for i, (x, y) in enumerate(batches(3)):
        model.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        for now, action in (
            ("before", None),
            ("x", optimizers[0]),
            ("between", None),
            ("x", optimizers[1]),
            ("after", None),
        ):
            if action is not None:
                action.step()
            elif now == place:
                monitor.log(loss=float(i))
    monitor.close()
    assert [reading.loss for reading in monitor.recent] == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
    with open_run(monitor.run) as run:
        assert run.loss.tolist() == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]


class TestRun:
    @pytest.mark.parametrize("late", [False, True], ids=["host", "late"])
    def test_the_file_holds_what_was_seen(self, tmp_path, late):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["AdamW"](model.parameters())
        guard = attach(
            "guard", model, optimizer, sg.policies.clip_norm(0.5), run=tmp_path / "a.steady", late=late
        )
        assert guard.run == str(tmp_path / "a.steady")
        stream = batches(5)
        for batch in [*stream[:2], poisoned(stream[2]), *stream[3:]]:
            guard.log(loss=1.25)
            train(model, optimizer, [batch])
        guard.close()
        recent = guard.recent
        with open_run(guard.run) as run:
            assert run.info.mode == "guard"
            assert run.info.policy == "clip_norm(0.5)"
            assert run.info.optimizers == ("AdamW",)
            assert [tensor.name for tensor in run.info.tensors][:2] == ["0.weight", "0.bias"]
            assert run.steps.tolist() == [0, 1, 2, 3, 4]
            np.testing.assert_allclose(run.total_norm, [r.total_norm for r in recent], rtol=2e-3)
            np.testing.assert_allclose(run.norms("2.weight"), [r.norms[2] for r in recent], rtol=2e-3)
            assert run.skipped.tolist() == [False, False, True, False, False]
            assert run.loss.tolist() == [1.25] * 5
            assert [f.kind for f in run.findings] == [f.kind for f in guard.findings]

    def test_two_optimizers_share_one_list_of_tensors(self, tmp_path):
        model = seeded(mlp)
        first = torch.optim.SGD(model[0].parameters(), lr=0.1)
        second = torch.optim.SGD(model[2].parameters(), lr=0.2)
        monitor = attach("watch", model, [first, second], run=tmp_path / "a.steady")
        for batch in batches(3):
            model.zero_grad()
            nn.functional.mse_loss(model(batch[0]), batch[1]).backward()
            first.step()
            second.step()
        second.add_param_group({"params": model[4].parameters()})
        second.step()
        monitor.close()
        readings = monitor.recent
        with open_run(monitor.run) as run:
            assert [t.name for t in run.info.tensors] == [
                f"{i}.{p}" for i in (0, 2, 4) for p in ("weight", "bias")
            ]
            assert run.optimizer.tolist() == [0, 1, 0, 1, 0, 1, 1]
            assert run.absent("0.weight").tolist() == [False, True, False, True, False, True, True]
            assert run.absent("4.weight").tolist() == [True] * 6 + [False]
            np.testing.assert_allclose(run.norms("0.weight")[0], readings[0].norms[0], rtol=2e-3)
            np.testing.assert_allclose(run.norms("2.bias")[1], readings[1].norms[1], rtol=2e-3)
            np.testing.assert_allclose(run.norms("4.weight")[6], readings[6].norms[2], rtol=2e-3)


class TestSummary:
    def test_before_the_first_step(self):
        model = seeded(mlp)
        monitor = sg.watch(model, OPTIMIZERS["SGD"](model.parameters()))
        assert "no optimizer step seen yet" in monitor.summary()
        assert monitor.last is None

    def test_deeds_findings_and_the_next_command_are_told(self, tmp_path):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        guard = sg.guard(model, optimizer, policy=sg.policies.clip_norm(0.1), run=tmp_path / "a.steady")
        train(model, optimizer, [*batches(3), poisoned(batches(1)[0])])
        text = guard.summary()
        guard.close()
        assert text.startswith("steadygrad guard: nonfinite_input in 4 steps")
        assert "3 steps clipped, 1 skipped" in text
        assert "clip_norm(0.1)" in text
        assert "try: " in text
        assert f"steadygrad explain {tmp_path / 'a.steady'}" in text

    def test_a_run_that_is_no_longer_recorded_is_not_offered(self, tmp_path):
        model = seeded(mlp)
        guard = sg.guard(model, OPTIMIZERS["SGD"](model.parameters()), run=tmp_path / "a.steady")
        guard._logbook.recorder._writer._recorder.fail("the disk is full")
        text = guard.summary()
        guard.close()
        assert "the disk is full" in text
        assert "recorded in" not in text

    def test_a_watch_says_that_nothing_was_changed(self):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        monitor = sg.watch(model, optimizer)
        train(model, optimizer, [poisoned(batches(1)[0])])
        assert "1 steps with non-finite gradients; nothing was changed" in monitor.summary()


def test_a_float64_loss_beyond_float32_is_no_inf():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sg.watch(model, optimizer) as monitor:
        monitor.log(loss=torch.tensor(1e300, dtype=torch.float64))
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        assert monitor.last.loss == 1e300
