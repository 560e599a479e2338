"""The edge table: each case beside what torch.nn.utils.clip_grad_norm_ makes of it."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from tests.monitor.workloads import attach, bits
from torch import nn

import steadygrad as sg
from steadygrad.errors import PolicyError, UsageError
from steadygrad.policies import clip_norm

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])
torchs = nn.utils.clip_grad_norm_


def pair(values, dtype=torch.float32):
    """The same parameters twice, each with the given gradients; None for none."""

    def one():
        params = nn.ParameterList([nn.Parameter(torch.ones(len(v) if v else 3, dtype=dtype)) for v in values])
        for param, value in zip(params, values, strict=True):
            param.grad = None if value is None else torch.tensor(value, dtype=dtype)
        return params

    return one(), one()


def guarded_step(model, late=False, max_norm=1.0):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    guard = attach("guard", model, optimizer, clip_norm(max_norm), late=late)
    before = [param.detach().clone() for param in model.parameters()]
    optimizer.step()
    moved = [b - param.detach() for b, param in zip(before, model.parameters(), strict=True)]
    return guard, moved


def length(tensors):
    return math.hypot(*[float(t.double().norm()) for t in tensors])


@both_paths
def test_one_inf(late):
    theirs, ours = pair([[1.0, math.inf], [2.0, 3.0]])
    assert torchs(theirs.parameters(), 1.0) == math.inf
    assert theirs[0].grad[1].isnan()
    assert theirs[1].grad.tolist() == [0.0, 0.0]
    guard, moved = guarded_step(ours, late)
    assert length(moved) == 0.0
    assert guard.last.skipped
    assert guard.last.nonfinite.tolist() == [True, False]
    assert bits(ours[1].grad) == bits(torch.tensor([2.0, 3.0]))


@both_paths
def test_one_nan(late):
    theirs, ours = pair([[1.0, math.nan], [2.0, 3.0]])
    assert torchs(theirs.parameters(), 1.0).isnan()
    assert all(param.grad.isnan().all() for param in theirs)
    guard, moved = guarded_step(ours, late)
    assert length(moved) == 0.0
    assert guard.last.skipped
    assert math.isnan(guard.last.total_norm)


@both_paths
def test_1e20_everywhere(late):
    theirs, ours = pair([[1e20] * 1000, [-1e20] * 1000])
    assert torchs(theirs.parameters(), 1.0) == math.inf
    assert all(param.grad.count_nonzero() == 0 for param in theirs)
    guard, moved = guarded_step(ours, late)
    assert length(moved) == pytest.approx(1.0, rel=1e-5)
    assert guard.last.total_norm == pytest.approx(1e20 * math.sqrt(2000))
    assert not guard.last.skipped


@both_paths
def test_float16_overflow_of_the_norm(late):
    theirs, ours = pair([[4e4] * 4], torch.float16)
    assert torchs(theirs.parameters(), 1.0) == math.inf
    assert theirs[0].grad.count_nonzero() == 0
    guard, moved = guarded_step(ours, late)
    assert length(moved) == pytest.approx(1.0, rel=2e-3)
    assert guard.last.total_norm == pytest.approx(8e4, rel=1e-3)


@both_paths
def test_no_gradient_at_all(late, capsys):
    theirs, ours = pair([None, None])
    assert torchs(theirs.parameters(), 1.0) == 0.0
    guard, moved = guarded_step(ours, late)
    assert length(moved) == 0.0
    assert guard.last.absent.all()
    assert [finding.kind for finding in guard.findings] == ["disconnected_loss"]
    assert "disconnected_loss" in capsys.readouterr().err


@both_paths
def test_a_sparse_gradient(late):
    def made():
        model = nn.Embedding(5, 2, sparse=True)
        model(torch.tensor([1, 1, 3])).sum().backward()
        return model

    with pytest.raises(NotImplementedError):
        torchs(made().parameters(), 1.0)
    guard, moved = guarded_step(made(), late)
    assert length(moved) == pytest.approx(1.0, rel=1e-5)
    assert guard.last.total_norm == pytest.approx(math.sqrt(2 * 4 + 2))


def test_an_empty_generator():
    model = nn.Linear(2, 1)
    used_up = model.parameters()
    list(used_up)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert torchs(used_up, 1.0) == 0.0
    assert caught
    with pytest.raises(UsageError, match=r"expected a torch\.nn\.Module, got generator"):
        sg.guard(used_up)
    with pytest.raises(UsageError, match="Identity has no parameters"):
        sg.guard(nn.Identity())


@pytest.mark.parametrize("max_norm", [-1.0, 0.0, math.nan, math.inf, -math.inf])
def test_a_max_norm_that_makes_no_sense(max_norm):
    theirs, _ = pair([[3.0, 4.0]])
    torchs(theirs.parameters(), max_norm)
    if max_norm == -1.0:
        assert theirs[0].grad.tolist() == pytest.approx([-0.6, -0.8])
    with pytest.raises(PolicyError, match=r"clip_norm\(max_norm=.*finite number above 0"):
        clip_norm(max_norm)


@pytest.mark.parametrize("max_norm", ["1.0x", None, [1.0]])
def test_a_max_norm_that_is_no_number(max_norm):
    with pytest.raises(PolicyError, match="max_norm"):
        clip_norm(max_norm)


@both_paths
def test_a_loss_that_is_not_connected(late):
    model = nn.Linear(10, 1)
    torch.tensor(100.0, requires_grad=True).backward()
    assert torchs(model.parameters(), 1.0) == 0.0
    guard, moved = guarded_step(model, late)
    assert length(moved) == 0.0
    (finding,) = guard.findings
    assert finding.kind == "disconnected_loss"
    assert finding.remedies


@both_paths
def test_a_norm_exactly_at_the_bound_is_untouched(late):
    theirs, ours = pair([[3.0, 4.0]])
    torchs(theirs.parameters(), 5.0)
    assert theirs[0].grad.tolist() != [3.0, 4.0]
    guard, moved = guarded_step(ours, late, max_norm=5.0)
    assert moved[0].tolist() == [3.0, 4.0]
    assert guard.last.clip_coef == 1.0


@both_paths
def test_an_empty_parameter_and_a_scalar(late):
    model = nn.ParameterList([nn.Parameter(torch.empty(0)), nn.Parameter(torch.tensor(2.0))])
    model[0].grad, model[1].grad = torch.empty(0), torch.tensor(-7.0)
    guard, moved = guarded_step(model, late)
    assert moved[1].item() == pytest.approx(-1.0)
    assert guard.last.norms.tolist() == [0.0, 7.0]
