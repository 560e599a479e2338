"""What is no path, no function and no sink is told at the call, with what was expected."""

from __future__ import annotations

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


def test_no_run_file_is_left_where_no_monitor_came_of_it(tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("a fault")

    monkeypatch.setattr(assembly, "Track", fails)
    model = torch.nn.Linear(2, 1)
    with pytest.raises(RuntimeError, match="a fault"):
        sg.watch(model, torch.optim.SGD(model.parameters(), lr=0.1), run=tmp_path / "runs" / "a.steady")
    assert list((tmp_path / "runs").iterdir()) == []
