from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from benchmarks.survival import published
from benchmarks.survival.contenders import CONTENDERS, constant
from benchmarks.survival.judge import regret
from benchmarks.survival.store import Cell, load, workloads
from benchmarks.survival.trial import run
from torch import nn

WORKLOADS = workloads()


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_trains_for_a_few_steps(name):
    short = replace(WORKLOADS[name], steps=3)
    result = run(short, CONTENDERS["clip_1"], scale=1.0, seed=0)
    assert math.isfinite(result.loss)
    assert not result.stopped


@pytest.mark.parametrize("name", ["auto", "steady"])
def test_the_loss_scale_changes_nothing_for_ours(name):
    short = replace(WORKLOADS["mlp_sgd"], steps=40)
    losses = [run(short, CONTENDERS[name], scale=scale, seed=0).loss for scale in (2.0**-10, 1.0, 2.0**10)]
    assert losses == pytest.approx([losses[1]] * 3, rel=1e-4)


@pytest.mark.parametrize("name", ["mlp_sgd", "lstm_adam"])
def test_a_constant_that_follows_the_loss_scale_is_the_same_training(name):
    short = replace(WORKLOADS[name], steps=20)
    losses = [
        run(short, constant(0.25 * scale), scale=scale, seed=0).loss for scale in (2.0**-10, 1.0, 2.0**10)
    ]
    assert losses == pytest.approx([losses[1]] * 3, rel=1e-3)


def test_the_same_seed_gives_the_same_loss():
    short = replace(WORKLOADS["outliers_sgd"], steps=20)
    assert run(short, CONTENDERS["plain"], scale=1.0, seed=3).loss == run(
        short, CONTENDERS["skip"], scale=1.0, seed=3
    ).loss  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "best", "want"),
    [
        (1.0, 1.0, 0.0),
        (3.0, 1.0, 1.0),
        (2.0, 1.0, 0.5),
        (math.inf, 1.0, 1.0),
        (math.nan, 1.0, 1.0),
        (9.0, 1.0, 1.0),
    ],
)
def test_regret_is_a_share_of_what_could_be_won(loss, best, want):
    assert regret(loss, best, 3.0) == want


def grads_after(rule, streams):
    param = nn.Parameter(torch.ones(2, 2))
    norms = []
    for norm in streams:
        param.grad = torch.full((2, 2), norm / 2)
        rule([param])
        norms.append(float(param.grad.norm()))
    return norms


def test_published_rules_have_their_published_faults():
    after = grads_after(published.autoclip(), [1.0, math.nan, 1.0])
    assert math.isnan(after[-1])
    assert grads_after(published.zclip(), [1.0] * 25 + [math.nan, 1000.0])[-1] == pytest.approx(1000.0)
    frozen = grads_after(published.adagc(), [0.0] * 100 + [1.0])
    assert frozen[-1] == 0.0


def test_results_come_back_from_the_file(tmp_path):
    path = tmp_path / "results.jsonl"
    assert load(path) == {}
    path.write_text(
        '{"key": "a|b|1|0", "loss": Infinity, "touched": null, "stopped": true, "seconds": 1.0}\n'
    )
    assert load(path)[Cell("a", "b", 1.0, 0).key].loss == math.inf


def test_the_published_agc_clips_units_of_convolutions_too():
    conv = torch.nn.Conv2d(3, 2, 3)
    conv.weight.grad = torch.ones_like(conv.weight)
    conv.bias.grad = torch.zeros_like(conv.bias)
    published.agc(clipping=0.01)(list(conv.parameters()))
    for unit, grad in zip(conv.weight, conv.weight.grad, strict=True):
        assert float(grad.norm()) == pytest.approx(0.01 * float(unit.detach().norm()), rel=1e-5)
