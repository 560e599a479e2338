"""Paths as people give them, wherever one is taken."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.errors import UsageError
from steadygrad.runfile.given import as_path


def trained():
    model = nn.Linear(2, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("given", ["~/a.steady", "~/runs/a.steady"])
def test_the_home_folder_is_meant_by_a_tilde(home, given):
    with sg.watch(*trained(), run=given) as monitor:
        assert monitor.run == given.replace("~", str(home))
    with sg.open_run(given) as run:
        assert run.path == given.replace("~", str(home))


def test_checkpoints_lie_in_the_home_folder_too(home):
    with sg.guard(*trained()) as guard:
        assert guard.save("~/last.pt")
        with guard.protect("~/mine.pt") as draft:
            torch.save({}, draft)
    assert {one.name for one in home.iterdir()} == {"last.pt", "mine.pt"}


def test_event_files_lie_in_the_home_folder_too(home):
    sg.sinks.TensorBoard("~/logs").close()
    assert [one.name for one in home.iterdir()] == ["logs"]


def test_nothing_is_made_beside_it(home):
    with sg.watch(*trained(), run="~/a.steady"):
        pass
    assert [one.name for one in home.parent.iterdir()] == ["home"]


def test_a_tilde_that_names_nobody_is_a_name(home):
    assert (
        str(as_path("f()", "~nobody-of-this-name/a.steady", "a run file", "..."))
        == "~nobody-of-this-name/a.steady"
    )


@pytest.mark.parametrize("given", ["a\0b", "runs/\0"])
def test_a_path_with_a_nul_is_told_at_the_call(home, given):
    model, optimizer = trained()
    for call in (
        lambda: sg.watch(model, optimizer, run=given),
        lambda: sg.open_run(given),
        lambda: sg.sinks.TensorBoard(given),
    ):
        with pytest.raises(UsageError, match=r"\\x00.*expected the path.*NUL"):
            call()
    assert not optimizer._optimizer_step_pre_hooks
