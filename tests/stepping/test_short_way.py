"""The short way of plain steps: whoever looks finds what would be there if each had taken the long one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.monitor.outcomes import compare, outcome
from tests.monitor.programs import Program
from tests.monitor.workloads import OPTIMIZERS, batches, mlp, seeded, step
from torch import nn

import steadygrad as sg
from steadygrad.measure import PARAM_NORM_EVERY
from steadygrad.stepping.short_way import ShortWay


@pytest.fixture
def passed(monkeypatch):
    """Which steps have taken it."""
    steps, leaves = [], ShortWay.leaves

    def counted(way):
        steps.append(way.reading.step)
        leaves(way)

    monkeypatch.setattr(ShortWay, "leaves", counted)
    return steps


def trained(count, name="Adam", **asked):
    model = seeded(mlp)
    optimizer = OPTIMIZERS[name](model.parameters())
    guard = sg.guard(model, optimizer, **asked)
    for batch in batches(count):
        guard.log(loss=step(model, optimizer, batch))
    return model, optimizer, guard


def test_most_steps_of_a_healthy_run_take_it(passed):
    trained(132)
    assert len(passed) > 70


def test_a_policy_learns_of_steps_in_their_order():
    """Also of one that took the long way, and that it was to learn of later."""
    _, _, guard = trained(140, "SGD")
    seen = np.exp(guard.policy.state_dict()["footing"]["window"]["log_norms"])
    np.testing.assert_allclose(seen, [one.total_norm for one in guard.recent][-len(seen) :])


def test_norms_that_rise_slowly_engage_nothing():
    """The limit of long ago is none to judge by: 420 steps at 2 % each rise four thousandfold, and none of them suddenly."""
    program = Program(steps=420, loss="never", drift=1.02)
    assert not compare(program)
    assert "engaged 0 times" in outcome(program, closed=False)["summary"]


def test_the_recorded_cap_is_that_of_the_newest_steps():
    _, _, guard = trained(140)
    caps = [one.cap for one in guard.recent][40:]
    same = max(sum(one == cap for one in caps) for cap in caps)
    assert same <= PARAM_NORM_EVERY


def test_the_weights_are_measured_as_often_after_steps_that_raised():
    """Each of those was a turn, so the next turn comes before the step that it was expected at."""
    program = Program(
        steps=90, recorded=True, events=((40, "hook raises"), (42, "hook raises"), (43, "hook raises"))
    )
    assert not compare(program)
    steps = np.frombuffer(outcome(program, closed=False)["run0.steady"]["params"][0][0][2], np.int64)
    assert np.diff(steps).max() < 2 * PARAM_NORM_EVERY


@pytest.mark.parametrize("every", [None, 7])
def test_buffers_are_looked_at_after_steps_that_raised(every):
    raised = tuple((at, "hook raises") for at in (40, 41, 42))
    recover = "None" if every is None else "every 7"
    program = Program(normed=True, recover=recover, recorded=True, events=(*raised, (70, "nan buffer")))
    assert not compare(program)


def test_a_layer_that_is_replaced_in_the_list_is_noticed_in_its_step():
    for mode in ("guard", "watch"):
        assert not compare(Program(mode=mode, recorded=True, events=((53, "replace"),)))


@pytest.mark.parametrize("log", ["after", "several"])
def test_a_closure_that_is_called_once_more_overtakes_nothing(log):
    inner = tuple((at, "log in closure") for at in range(90))
    assert not compare(Program(optimizer="twice", loss=log, steps=90, events=inner))


def test_gradients_in_another_order_than_the_models_have_the_same_norm(monkeypatch):
    """To the last bit: sums depend on their order, and these are of many numbers."""

    def totals(*, closed):
        torch.manual_seed(0)
        model = nn.Sequential(*[nn.Linear(3 + i % 5, 3 + (i + 1) % 5) for i in range(60)])
        optimizer = torch.optim.SGD(list(model.parameters())[::-1], lr=1e-3)
        with pytest.MonkeyPatch.context() as patch:
            if closed:
                patch.setattr(ShortWay, "open", lambda way: None)
            monitor = sg.watch(model, optimizer)
            for _ in range(48):
                for param in model.parameters():
                    param.grad = torch.randn_like(param)
                optimizer.step()
        return [one.total_norm for one in monitor.recent]

    assert totals(closed=False) == totals(closed=True)


def test_nothing_passes_where_measuring_has_failed(monkeypatch, passed, capsys):
    """What would be seen of the run then is neither all nor nothing."""
    model, optimizer, guard = trained(44)
    passed.clear()
    with monkeypatch.context() as patch:
        patch.setattr(type(guard._tracks[0].lane), "begin", lambda *_: 1 / 0)
        guard._tracks[0]._short.until = 0
        step(model, optimizer, batches(1)[0])
    for batch in batches(20):
        step(model, optimizer, batch)
    assert not passed
    assert "measuring" in capsys.readouterr().err


def test_a_batch_that_can_not_be_had_costs_the_bundles_alone(passed, tmp_path):
    """It is somebody's function that hands it over."""

    def batch():
        if len(passed) > 8:
            raise KeyError("gone")
        return 0

    plan = sg.recover.rollback(bundles=replace(sg.recover.bundles(), batch=batch))
    _, _, guard = trained(80, recover=plan, run=tmp_path / "a.steady")
    guard.close()
    assert [text.partition(" (")[0] for text in guard._logbook.faults] == [
        "a fault in steadygrad's own incident bundles"
    ]
    assert len(passed) > 30
