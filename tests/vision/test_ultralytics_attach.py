"""`attach` in real, tiny trainings of Ultralytics."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

import steadygrad as sg
from steadygrad.errors import UsageError
from steadygrad.integrations import ultralytics as integration

pytestmark = [
    pytest.mark.slow,
    # Ultralytics' own warnings are not ours to judge.
    pytest.mark.filterwarnings("ignore"),
]

SMALL = {"imgsz": 64, "batch": 8, "nbs": 8, "epochs": 2}


@pytest.fixture(scope="session")
def vision():
    pytest.importorskip("ultralytics", reason="needs the vision environment")
    from benchmarks.vision import digits, trainings

    return digits, trainings


@pytest.fixture(scope="session")
def data(vision, tmp_path_factory):
    digits, _ = vision
    made = {}

    def of(task):
        if task not in made:
            folder = tmp_path_factory.mktemp(task)
            made[task] = digits.write_digits(folder, task, train=24, val=8)
        return made[task]

    return of


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_healthy_training_is_bit_identical(vision, data, tmp_path):
    _, trainings = vision
    runs = {
        mode: trainings.train("detect", data("detect"), tmp_path / str(mode), mode=mode, **SMALL)
        for mode in (None, "watch", "guard")
    }
    plain = runs[None]
    assert not any(run.error for run in runs.values())
    assert same(plain.state, runs["watch"].state)
    assert same(plain.state, runs["guard"].state)
    assert plain.fitness == runs["guard"].fitness
    recorded = sg.open_run(tmp_path / "guard" / "train.steady")
    assert len(recorded.steps) == plain.steps
    # The norms as they came, not what Ultralytics' own clip to 10 has left of them.
    assert max(recorded.total_norm) > 10.001


def test_what_ultralytics_clips_is_held_once(vision, data, tmp_path):
    _, trainings = vision
    plain, guarded = (
        trainings.train(
            "detect", data("detect"), tmp_path / str(policy), mode=policy and "guard", policy=policy, **SMALL
        )
        for policy in (None, sg.policies.clip_norm(10.001))
    )
    assert same(plain.state, guarded.state)
    recorded = sg.open_run(tmp_path / str(sg.policies.clip_norm(10.001)) / "train.steady")
    assert max(recorded.total_norm) > 10.001
    assert min(recorded.clip_coef) == 1.0


@pytest.mark.parametrize(
    ("task", "epoch", "position", "terms"),
    [
        ("detect", 0, 0.0, ("box_loss", "cls_loss", "dfl_loss")),
        ("pose", 1, 1.0, ("pose_loss", "kobj_loss")),
        ("segment", 0, 0.5, ("seg_loss",)),
        ("classify", 0, 1.0, ("loss",)),
    ],
)
def test_poisoned_batch_costs_one_step(vision, data, tmp_path, task, epoch, position, terms):
    _, trainings = vision
    poison = trainings.Poison(epoch, position)
    run = trainings.train(task, data(task), tmp_path, mode="guard", poison=poison, **SMALL)
    assert run.error == ""
    assert run.nonfinite == ()
    assert (run.epochs, run.steps, run.skipped, run.updates) == (2, 6, 1, 5)
    assert math.isfinite(run.fitness)
    (finding,) = run.findings
    assert finding.startswith("error: nonfinite_input at step")
    if task != "classify":  # whose batches carry no file names
        assert run.poisoned[0].endswith(finding.split("pixels of ")[1].split(";")[0])
    assert any(term in finding for term in terms)


def test_accumulated_step_is_lost_once(vision, data, tmp_path):
    _, trainings = vision
    poison = trainings.Poison(1, 0.5)
    settings = {**SMALL, "nbs": 24, "warmup_epochs": 0.0}
    run = trainings.train("detect", data("detect"), tmp_path, mode="guard", poison=poison, **settings)
    assert run.error == ""
    assert run.nonfinite == ()
    assert (run.steps, run.skipped) == (2, 1)
    assert run.poisoned[0].endswith(run.findings[0].split("pixels of ")[1].split(";")[0])


def test_ruined_optimizer_never_reaches_a_file(vision, data, tmp_path, monkeypatch):
    _, trainings = vision

    def ruin(trainer):
        if trainer.epoch == 1:
            state = next(iter(trainer.optimizer.state.values()))
            next(value for value in state.values() if torch.is_tensor(value) and value.dim()).fill_(math.nan)

    begin = integration.Attachment.on_train_start

    def with_ruin(self, trainer):
        begin(self, trainer)
        trainer.add_callback("on_train_epoch_end", ruin)

    monkeypatch.setattr(integration.Attachment, "on_train_start", with_ruin)
    run = trainings.train("detect", data("detect"), tmp_path, mode="guard", **SMALL)
    assert run.error == ""
    assert run.nonfinite == ("optimizer",)  # of the process, not of the files


def test_attached_twice_is_attached_once(vision):
    from ultralytics import YOLO

    model = YOLO("yolo11n.yaml")
    first = integration.attach(model, run="first.steady")
    assert integration.attach(model) is first
    assert sum(callback.__self__ is first for callback in model.callbacks["on_train_start"][1:]) == 1
    with pytest.raises(UsageError, match="already attached"):
        integration.attach(model, mode="watch")
    assert pickle.loads(pickle.dumps(first)).wish == first.wish
    assert first.summary().startswith("no training")
    with pytest.raises(UsageError, match="expected a YOLO"):
        integration.attach(model.model)
