from __future__ import annotations

import pytest
import torch

import steadygrad as sg
from steadygrad.errors import FrameworkMissing, UsageError
from steadygrad.framework import require
from steadygrad.integrations.attaching import Wish
from steadygrad.integrations.borrowed import Borrowed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "gaurd"}, "expected 'guard' or 'watch'"),
        ({"mode": "watch", "policy": sg.policies.clip_norm(1.0)}, "takes no policy"),
        ({"policy": sg.policies.auto}, "Did you mean policy=auto"),
        ({"max_consecutive_skips": 0}, "at least 1"),
        ({"overhead": 2.0}, "between 0 and 1"),
        ({"run": ""}, "path of a run file"),
    ],
)
def test_wrong_wishes_are_refused_before_there_is_a_model(wrong, message):
    with pytest.raises(UsageError, match=message):
        Wish("attach", **wrong)


def test_each_rank_has_its_own_run_file(monkeypatch):
    wish = Wish("attach", run="runs/a.steady")
    assert wish.of_this_rank() == wish
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert str(wish.of_this_rank().run) == "runs/a.rank1.steady"


def test_a_later_wish_must_be_met_by_the_first():
    first = Wish("attach", policy=sg.policies.clip_norm(1.0), run="a.steady")
    Wish("attach").check_met_by(first)
    Wish("attach", policy=sg.policies.clip_norm(1.0)).check_met_by(first)
    for other in ({"mode": "watch"}, {"policy": sg.policies.clip_norm(2.0)}, {"run": "b.steady"}):
        with pytest.raises(UsageError, match="already attached"):
            Wish("attach", **other).check_met_by(first)


@pytest.mark.parametrize("mode", ["guard", "watch"])
def test_attaches_what_was_wished_for(mode):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert Wish("attach", mode).attach(model, optimizer).mode == mode


def test_absent_and_old_frameworks_say_how_to_install_them():
    require("torch", "2.0", extra="all")
    with pytest.raises(
        FrameworkMissing, match=r'not installed\. Install it with pip .*"nothing-here>=1\.0".*\[x\]'
    ):
        require("nothing-here", "1.0", extra="x")
    with pytest.raises(ImportError, match=r"torch 99\.1 or newer is needed here; 2\..* is installed"):
        require("torch", "99.1", extra="x")


def test_borrowed_methods_come_back():
    class Trainer:
        def step(self):
            return 1

    trainer, with_own = Trainer(), Trainer()
    with_own.step = lambda: 5
    borrowed = Borrowed()
    for one in (trainer, with_own):
        borrowed.wrap(one, "step", lambda original: lambda: original() + 1)
        borrowed.wrap(one, "step", lambda original: lambda: original() * 10)
    assert (trainer.step(), with_own.step()) == (20, 60)
    borrowed.give_back()
    assert (trainer.step(), with_own.step()) == (1, 5)
    assert "step" not in vars(trainer)
