"""What is no path, no function and no sink is told at the call, with what was expected."""

from __future__ import annotations

import gc

import pytest
import torch

import steadygrad as sg
from steadygrad import assembly
from steadygrad.errors import UsageError


@pytest.fixture
def guard():
    model = torch.nn.Linear(2, 1)
    with sg.guard(model, torch.optim.SGD(model.parameters(), lr=0.1)) as guard:
        yield guard


@pytest.mark.parametrize("wrong", [3, None, "", b"bytes"])
def test_what_is_no_path(guard, wrong):
    for call, text in (
        (sg.open_run, "expected the path of a run file"),
        (guard.save, "expected the path of a checkpoint"),
        (guard.protect, "expected the path of a checkpoint"),
    ):
        with pytest.raises(UsageError, match=text):
            call(wrong)


@pytest.mark.parametrize("wrong", [3, None, "", b"bytes"])
def test_what_is_no_folder_for_event_files(wrong):
    pytest.importorskip("tensorboard")
    with pytest.raises(UsageError, match="expected the path of a folder for event files"):
        sg.sinks.TensorBoard(wrong)


def test_what_cannot_tell(guard):
    with pytest.raises(UsageError, match="expected a function that takes a Finding"):
        guard.tell_with(3)


@pytest.mark.parametrize("call", ["clip_", "left_out"])
@pytest.mark.parametrize("wrong", [3, "SGD", [1], torch.nn.Linear(2, 1)])
def test_what_is_no_optimizer(guard, call, wrong):
    with pytest.raises(
        UsageError, match=rf"guard\.{call}\(optimizer\): expected a torch.optim.Optimizer, got"
    ):
        getattr(guard, call)(wrong)


@pytest.mark.parametrize("call", ["clip_", "left_out"])
@pytest.mark.parametrize("mode", [sg.watch, sg.guard])
def test_an_optimizer_that_is_not_watched(mode, call):
    model, stranger = torch.nn.Linear(2, 1), torch.optim.Adam(torch.nn.Linear(2, 1).parameters())
    own = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        mode(model, own) as monitor,
        pytest.raises(UsageError, match=rf"{monitor.mode}\.{call}\(optimizer\): this Adam is none of the 1 "),
    ):
        getattr(monitor, call)(stranger)
    with mode(model) as monitor, pytest.raises(UsageError, match="attached to a loop by hand"):
        getattr(monitor, call)(own)


def test_a_guard_that_is_closed_asks_nothing_more_of_a_step_left_out(guard):
    guard.close()
    guard.left_out(torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1))


class Around(torch.optim.Optimizer):
    """As Accelerate's: an optimizer by class that was never initialised as one."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


def test_the_optimizer_inside_of_a_wrapper_is_the_one_meant():
    model = torch.nn.Linear(2, 1)
    own = torch.optim.SGD(model.parameters(), lr=0.1)
    with sg.guard(model, Around(own)) as guard:
        model(torch.ones(1, 2)).sum().backward()
        assert float(guard.clip_(Around(own))) > 0.0
        guard.left_out(Around(own))
        assert (guard.counts.steps, guard.counts.overflows) == (1, 1)


def test_no_run_file_is_left_where_no_monitor_came_of_it(tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("a fault")

    monkeypatch.setattr(assembly, "Track", fails)
    model = torch.nn.Linear(2, 1)
    with pytest.raises(RuntimeError, match="a fault"):
        sg.watch(model, torch.optim.SGD(model.parameters(), lr=0.1), run=tmp_path / "runs" / "a.steady")
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_optimizer_that_was_collected_is_said_to_be_gone():
    model = torch.nn.Linear(2, 1)
    guard = sg.guard(model, torch.optim.SGD(model.parameters(), lr=0.1))
    gc.collect()
    other = torch.optim.Adam(model.parameters())
    with pytest.raises(
        UsageError, match=r"left_out\(optimizer\): the optimizer .* is no more, and this Adam is another"
    ):
        guard.left_out(other)
