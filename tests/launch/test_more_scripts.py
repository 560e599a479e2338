"""Scripts with habits of their own: how they clip, run in threads, replace layers, are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from steadygrad import open_run
from steadygrad.report import Story
from steadygrad.runfile.own_clip import own_clip

SCRIPTS = Path(__file__).parent / "scripts"


def test_parameters_that_can_be_walked_over_once_are_clipped_all_the_same(plain, launched):
    expected, ended = plain("clips.py"), launched("clips.py")
    assert ended.out == expected.out
    (run,) = ended.runs
    clip = own_clip(run)
    assert clip.steps.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(clip.before, ended.losses("before")[:4], rtol=1e-5)
    np.testing.assert_allclose(clip.after, ended.losses("after")[:4], rtol=1e-4)
    # The clip by value leaves another norm; what is recorded came before it.
    np.testing.assert_allclose(run.total_norm, ended.losses("before"), rtol=1e-3)
    assert "own clip at 4 of 4 steps; median norm" in " ".join(str(Story(run)).split())


def test_trainings_in_threads_keep_their_losses(plain, launched):
    ended = launched("threads.py")
    assert ended.out == plain("threads.py").out
    printed = sorted([float(word) for word in line.split()] for line in ended.out.splitlines())
    recorded = sorted(run.scalars("loss")[1].tolist() for run in ended.runs)
    np.testing.assert_allclose(recorded, printed, atol=1e-5)


def test_a_loss_that_goes_uphill_counts_as_such(launched):
    ended = launched("critic.py")
    (run,) = ended.runs
    np.testing.assert_allclose(run.scalars("loss")[1], ended.losses(), atol=1e-6)


def test_a_layer_replaced_after_the_optimizer_was_made(launched):
    ended = launched("new_head.py")
    (run,) = ended.runs
    assert run.info.model == "Net"
    assert {"fc.weight", "fc.bias"} <= set(next(f for f in run.findings if f.kind == "stale_optimizer").where)
    assert "stale_optimizer at step 0 in fc.weight" in ended.closing


def test_an_optimizer_that_stands_in_for_another_is_one_training(plain, launched):
    pytest.importorskip("accelerate")
    ended = launched("with_accelerate.py", "--guard")
    assert ended.out == plain("with_accelerate.py").out
    (run,) = ended.runs
    assert len(run.steps) == 4
    assert ended.closing.count("guarded") == 1


@pytest.mark.parametrize("ours", [(), ("--guard",)])
def test_an_optimizer_around_another_is_one_training(plain, launched, ours):
    ended = launched("around.py", *ours)
    assert ended.out == plain("around.py").out
    assert [len(run.steps) for run in ended.runs] == [7, 7]
    assert len(ended.err.splitlines()) == 1, ended.err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_by_a_signal_leaves_a_whole_file(tmp_path, number):
    words = ["-m", "steadygrad", "run", str(SCRIPTS / "endless.py")]
    with subprocess.Popen(
        [sys.executable, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while "1000\n" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == -number
    with open_run(tmp_path / "steadygrad-runs" / "endless.steady") as run:
        # What was made in the last moments of a killed process may be missing.
        assert int(run.resolution.sum()) >= (1000 if number == signal.SIGINT else 200)
        assert np.isfinite(run.total_norm).all()


def test_a_clip_of_the_script_that_limits_every_step_is_found(launched, write):
    script = write(
        "import torch\n"
        "torch.manual_seed(0)\n"
        "model = torch.nn.Linear(4, 1)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.5)\n"
        "for step in range(60):\n"
        "    batch = torch.randn(8, 4)\n"
        "    loss = (model(batch) - 9.0).square().mean()\n"
        "    optimizer.zero_grad()\n"
        "    loss.backward()\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)\n"
        "    optimizer.step()\n"
    )
    ended = launched(script)
    (finding,) = (one for run in ended.runs for one in run.findings)
    assert (finding.kind, finding.step, finding.evidence["share"]) == ("clip_is_step_limiter", 0, 1.0)
    assert finding.evidence["ceiling"] == pytest.approx(0.01, rel=1e-3)
    assert finding.evidence["effective_lr"] == pytest.approx(0.5 * finding.evidence["median_clip_coef"])
    assert "clip_is_step_limiter at step 0" in ended.closing


def test_a_policy_that_cannot_be_made_ends_the_script_with_one_line(launched, write):
    ended = launched(write("import torch\nprint('not reached')\n"), "--guard", "--policy", "clip_norm(-1)")
    assert (ended.out, ended.code) == ("", 2)
    assert (
        ended.err == "steadygrad: error: clip_norm(max_norm=-1): max_norm must be a finite number above 0.\n"
    )


def test_a_healthy_script_that_clips_is_not_held_a_second_time(plain, launched, write):
    script = write(
        "import torch\n"
        "torch.manual_seed(0)\n"
        "model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)\n"
        "for step in range(12):\n"
        "    optimizer.zero_grad()\n"
        "    loss = (model(torch.randn(8, 4)) - 1).square().mean()\n"
        "    loss.backward()\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
        "    optimizer.step()\n"
        "    print('loss', repr(loss.item()))\n"
    )
    ended = launched(script, "--guard")
    assert ended.out == plain(script).out
    assert "guarded 12 steps of Sequential, nothing found" in ended.closing
    assert max(run.total_norm.max() for run in ended.runs) > 1.5


def test_a_module_beside_the_script_that_is_named_as_we_are_is_told(launched, tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "steadygrad.py").write_text("mark = 1\n", encoding="utf-8")
    (folder / "train.py").write_text("print('ran')\n", encoding="utf-8")
    ended = launched(str(folder / "train.py"))
    assert ended.out == "ran\n"
    assert f"warning: {folder} holds a module named steadygrad too" in ended.err


WIRED_WRONG = {
    "double_softmax": (
        (
            "net = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))\n"
            "update = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        ),
        "update.zero_grad(); loss = loss_of(net(batch)); loss.backward(); update.step()",
        (),
    ),
    "double_softmax, before a clip": (
        (
            "net = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))\n"
            "update = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        ),
        (
            "update.zero_grad(); loss = loss_of(net(batch)); loss.backward()\n"
            "    nn.utils.clip_grad_norm_(net.parameters(), 10.0); update.step()"
        ),
        (),
    ),
    "double_softmax, in a closure": (
        (
            "net = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))\n"
            "update = torch.optim.SGD(net.parameters(), lr=0.1)\n"
            "def closure():\n"
            "    update.zero_grad(); loss = loss_of(net(batch)); loss.backward()\n"
            "    return loss\n"
        ),
        "update.step(closure)",
        (),
    ),
    "stale_optimizer": (
        (
            "net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))\n"
            "update = torch.optim.SGD(net.parameters(), lr=0.1)\n"
            "net[0] = Adapted(net[0])\n"
        ),
        "update.zero_grad(); loss = loss_of(net(batch)); loss.backward(); update.step()",
        ("0.up", "0.down"),
    ),
    "missing_zero_grad": (
        "net = nn.Linear(4, 3)\n",
        (
            "loss = loss_of(net(batch)); loss.backward()\n"
            "    for p in net.parameters(): p.data.add_(p.grad, alpha=-1e-3)"
        ),
        (),
    ),
}


@pytest.mark.parametrize("kind", WIRED_WRONG)
def test_wiring_is_looked_at_without_a_checkup(launched, write, kind):
    made, step, where = WIRED_WRONG[kind]
    script = write(
        "import torch\n"
        "from torch import nn\n"
        "torch.manual_seed(0)\n"
        "loss_of = lambda output: nn.functional.cross_entropy(output, torch.arange(9) % 3)\n"
        "class Adapted(nn.Module):\n"
        "    def __init__(self, base):\n"
        "        super().__init__()\n"
        "        self.base = base.requires_grad_(False)\n"
        "        self.up = nn.Parameter(0.1 * torch.randn(8, 2))\n"
        "        self.down = nn.Parameter(0.1 * torch.randn(2, 4))\n"
        "    def forward(self, x):\n"
        "        return self.base(x) + x @ self.down.T @ self.up.T\n"
        f"{made}"
        "for step in range(12):\n"
        "    batch = torch.randn(9, 4)\n"
        f"    {step}\n"
    )
    (run,) = launched(script).runs
    (finding,) = [one for one in run.findings if one.severity != "info"]
    assert (finding.kind, finding.where) == (kind.partition(",")[0], where)


def test_a_scaler_that_never_lets_a_step_through_is_told(launched, write):
    script = write(
        "import torch\n"
        "torch.manual_seed(0)\n"
        "net = torch.nn.Linear(4, 1)\n"
        "opt = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "scaler = torch.amp.GradScaler('cpu')\n"
        "for step in range(20):\n"
        "    loss = net(torch.randn(8, 4)).sqrt().sum()\n"
        "    scaler.scale(loss).backward()\n"
        "    scaler.step(opt)\n"
        "    scaler.update()\n"
        "    opt.zero_grad()\n"
    )
    ended = launched(script)
    (run,) = ended.runs
    (finding,) = [one for one in run.findings if one.kind == "overflow_streak"]
    assert finding.where == ("bias", "weight")
    assert run.findings[0].kind == "nonfinite_loss"
    assert "made no step: nonfinite_loss at step 0" in ended.closing


@pytest.mark.parametrize("ours", [(), ("--guard",)])
def test_a_model_in_half_precision_and_its_float32_copies_are_one_training(plain, launched, ours):
    ended = launched("master_copies.py", *ours)
    assert ended.out == plain("master_copies.py").out
    (run,) = ended.runs
    assert (run.info.model, len(run.steps)) == ("Sequential", 20)
    assert [tensor.name for tensor in run.info.tensors] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert "20 steps of Sequential, nothing found" in ended.closing


def test_two_parts_of_one_model_are_told_apart(launched):
    ended = launched("two_parts.py")
    assert "10 steps of Net (body), " in ended.closing
    assert "10 steps of Net (head), " in ended.closing


def test_a_nan_before_a_clip_is_one_finding_of_one_step(launched):
    ended = launched("clip_nan.py", "--guard")
    (run,) = ended.runs
    assert [(finding.kind, finding.step) for finding in run.findings] == [("nonfinite_input", 5)]


def test_a_critics_word_on_an_actor_has_no_course_to_keep_to(launched):
    ended = launched("actor.py")
    assert float(ended.out) > 20.0
    of_critic, of_actor = ended.runs
    assert (of_critic.loss_logged.any(), of_actor.loss_logged.any()) == (True, False)
    assert len(of_actor.scalars("score")[0]) == 160
    assert not of_actor.findings


def test_two_optimizers_that_step_by_one_loss_share_it(launched):
    runs = launched("actor.py", args=("together",)).runs
    assert [bool(run.loss_logged.all()) for run in runs] == [True, True]
