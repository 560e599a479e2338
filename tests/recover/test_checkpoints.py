from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.errors import UsageError


def trained(make_optimizer=torch.optim.AdamW, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    optimizer = make_optimizer(model.parameters(), lr=1e-2)
    guard = sg.guard(model, optimizer, **options)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).square().mean().backward()
        optimizer.step()
    return model, optimizer, guard


def ruin_weight(model, optimizer):
    with torch.no_grad():
        model[2].weight[0, 0] = math.nan


def ruin_moment(model, optimizer):
    next(iter(optimizer.state.values()))["exp_avg_sq"].view(-1)[0] = math.inf


def ruin_buffer(model, optimizer):
    model[1].running_var[0] = math.nan


RUIN = {"weight": ruin_weight, "moment": ruin_moment, "buffer": ruin_buffer}


def test_a_saved_state_comes_back_to_the_last_bit(tmp_path):
    model, optimizer, guard = trained()
    assert guard.healthy
    assert guard.save(tmp_path / "new" / "a.pt")
    saved = torch.load(tmp_path / "new" / "a.pt", weights_only=True)
    guard.close()
    other, other_optimizer, other_guard = trained()
    other.load_state_dict(saved["model"])
    other_optimizer.load_state_dict(saved["optimizers"][0])
    other_guard.load_state_dict(saved["guard"])
    assert saved["step"] == 3
    for one, two in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    for one, two in zip(optimizer.state.values(), other_optimizer.state.values(), strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("ruin", RUIN.values(), ids=RUIN)
def test_a_ruined_state_never_takes_the_place_of_a_good_one(tmp_path, capsys, ruin):
    model, optimizer, guard = trained()
    path = tmp_path / "a.pt"
    assert guard.save(path)
    good = path.read_bytes()
    ruin(model, optimizer)
    assert not guard.healthy
    assert not guard.save(path)
    with guard.protect(path) as file:
        torch.save(model.state_dict(), file)
    assert path.read_bytes() == good
    assert [one.name for one in tmp_path.iterdir()] == ["a.pt"]
    assert "refuse: a.pt is not saved" in capsys.readouterr().err


def test_nothing_is_written_where_there_was_nothing(tmp_path):
    model, optimizer, guard = trained()
    ruin_weight(model, optimizer)
    assert not guard.save(tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


def test_protect_writes_what_the_user_writes(tmp_path):
    _, _, guard = trained()
    with guard.protect(tmp_path / "a.pt") as file:
        torch.save({"mine": torch.ones(2)}, file)
    assert torch.load(tmp_path / "a.pt")["mine"].sum() == 2


def test_an_exception_of_the_user_leaves_the_old_file(tmp_path):
    _, _, guard = trained()
    guard.save(tmp_path / "a.pt")
    good = (tmp_path / "a.pt").read_bytes()

    def save_half():
        with guard.protect(tmp_path / "a.pt") as file:
            file.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        save_half()
    assert (tmp_path / "a.pt").read_bytes() == good
    assert len(list(tmp_path.iterdir())) == 1


def test_a_path_that_was_not_written_to_is_wrong_use(tmp_path):
    _, _, guard = trained()
    with (
        pytest.raises(UsageError, match="nothing was written to the path it gave"),
        guard.protect(tmp_path / "a"),
    ):
        pass


def test_a_mask_of_minus_infinity_is_no_ruin(tmp_path):
    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.full((2, 2), -math.inf))
    guard = sg.watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert guard.healthy
    assert guard.save(tmp_path / "a.pt")


KILLED = """
import sys, torch, steadygrad as sg
from torch import nn
model = nn.Linear(256, 256)
guard = sg.guard(model, torch.optim.SGD(model.parameters(), lr=0.1))
guard.save(sys.argv[1])
print("saved", flush=True)
while True:
    guard.save(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill")
def test_a_process_killed_at_any_instant_of_a_save_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.pt"
    for instant in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "saved\n"
        time.sleep(0.003 + 0.0017 * instant)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert torch.load(path, weights_only=True)["model"]["weight"].shape == (256, 256)
