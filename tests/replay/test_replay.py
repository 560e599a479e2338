"""Incidents of real trainings made again: do they reproduce, and do the changes do what they say?"""

from __future__ import annotations

import copy
import math
from io import StringIO

import pytest
import torch
from rich.console import Console
from tests.monitor.workloads import MODELS, OPTIMIZERS, batches, bits, poisoned, seeded
from torch import nn

import steadygrad as sg
from steadygrad.bundles import bundles_of
from steadygrad.errors import UsageError
from steadygrad.recover import bundles, rollback
from steadygrad.replay import open_case, parse_change, replay, told

BAD = 30


def loss_of(output, x):
    return nn.functional.mse_loss(output, x.mean(1, keepdim=True) + 1.0)


class Dropping(nn.Module):
    """Has random numbers in it."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 32), nn.Dropout(0.5), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, x):
        return self.body(x)


MAKES = {**MODELS, "dropout": Dropping}


def recorded(folder, make, name, change, *, loss=loss_of, plan=None):
    """Train, change one batch, and return the bundle it leaves."""
    model = seeded(make)
    optimizer = OPTIMIZERS[name](model.parameters())
    path = folder / "a.steady"
    with sg.guard(model, optimizer, run=path, recover=plan or rollback(every=10)) as guard:
        for step, batch in enumerate(batches(BAD + 1)):
            x, _ = change(batch) if step == BAD else batch
            optimizer.zero_grad()
            value = loss(model(x), x)
            value.backward()
            guard.log(loss=value)
            optimizer.step()
    (bundle,) = bundles_of(path)
    return bundle


def made(make, name, seed=5):
    model = seeded(make, seed)
    return model, torch.zeros(16, 6), loss_of, OPTIMIZERS[name](model.parameters())


def by_label(found):
    return {one.change.label: one for one in found.outcomes}


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
@pytest.mark.parametrize("name", ["SGD momentum", "AdamW"])
def test_a_poisoned_batch_is_met_again_and_dropping_its_row_helps(tmp_path, make, name):
    bundle = recorded(tmp_path, make, name, poisoned)
    factory = made(make, name)
    before = bits([factory[0].state_dict(), factory[3].state_dict()])
    found = replay(
        open_case(bundle.path), *factory, changes=[parse_change("drop-rows"), parse_change("clip=1")]
    )
    assert found.reproduced
    assert found.origin.rows == (3,)
    outcomes = by_label(found)
    assert outcomes["as it was"].skipped
    assert not outcomes["no guard"].finite
    assert outcomes["clip=1"].skipped
    assert outcomes["drop-rows"].finite
    assert outcomes["drop-rows"].update_norm > 0.0
    assert bits([factory[0].state_dict(), factory[3].state_dict()]) == before
    assert all(param.grad is None for param in factory[0].parameters())


def divergence(folder, *, loss=loss_of, plan=None):
    """A run that goes back since its loss has left its course; targets are moved away."""
    model = seeded(MODELS["MLP"])
    optimizer = OPTIMIZERS["SGD momentum"](model.parameters())
    path = folder / "a.steady"
    guard = sg.guard(model, optimizer, run=path, recover=plan or rollback(every=10))
    shift = 0.0
    for step, (x, _) in enumerate(batches(300)):
        shift = 60.0 if step >= 100 else 0.0
        optimizer.zero_grad()
        value = (
            loss(model(x), x) if not shift else (model(x) - x.mean(1, keepdim=True) - shift).square().mean()
        )
        value.backward()
        guard.log(loss=value)
        optimizer.step()
        if bundles_of(path):
            break
    guard.close()
    return bundles_of(path)[0]


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    return divergence(tmp_path_factory.mktemp("diverged"))


def shifted(output, x):
    return (output - x.mean(1, keepdim=True) - 60.0).square().mean()


def factory_of_the_divergence(loss=shifted):
    model, batch, _, optimizer = made(MODELS["MLP"], "SGD momentum")
    return model, batch, loss, optimizer


def test_a_finite_step_reproduces_and_each_change_is_what_the_loop_would_do(diverged):
    case = open_case(diverged.path)
    texts = ["clip=0.5", "lr=0.1x", "lr=0.001", "skip", "fp64", "policy=steady", "clip=0.5,lr=0.1x"]
    found = replay(case, *factory_of_the_divergence(), changes=[parse_change(text) for text in texts])
    assert found.reproduced
    assert found.notes == ()
    assert found.origin is None
    outcomes = by_label(found)
    for text, max_norm, factor in (
        ("no guard", math.inf, 1.0),
        ("clip=0.5", 0.5, 1.0),
        ("clip=0.5,lr=0.1x", 0.5, 0.1),
    ):
        expected = plain_step(case, max_norm, factor)
        assert outcomes[text].loss_after == pytest.approx(expected, rel=1e-4)
    # The run's own policy bounds the step relative to the weights, so it lets more of a smaller one through.
    assert outcomes["lr=0.1x"].update_norm < outcomes["as it was"].update_norm
    assert outcomes["lr=0.1x"].clip_coef > outcomes["as it was"].clip_coef
    assert outcomes["skip"].loss_after == pytest.approx(outcomes["skip"].loss)
    assert outcomes["skip"].update_norm == 0.0
    assert outcomes["fp64"].loss == pytest.approx(outcomes["as it was"].loss, rel=1e-5)
    assert outcomes["policy=steady"].clip_coef < 1.0


def plain_step(case, max_norm, factor):
    """The slow obvious truth: load, one step with torch's own clip, the loss after."""
    model = MODELS["MLP"]()
    model.load_state_dict(case.state["params"])
    optimizer = OPTIMIZERS["SGD momentum"](model.parameters())
    optimizer.load_state_dict(copy.deepcopy(case.state["optimizers"][0]["state_dict"]))
    optimizer.param_groups[0]["lr"] *= factor
    x = case.step["calls"][0]["args"][0]
    shifted(model(x), x).backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return float(shifted(model(x), x).detach())


def test_another_target_is_noticed_and_the_runs_own_gradients_are_used(diverged):
    found = replay(
        open_case(diverged.path), *factory_of_the_divergence(loss_of), changes=[parse_change("clip=0.5")]
    )
    assert found.reproduced
    assert "another target" in found.notes[0]
    truth = replay(open_case(diverged.path), *factory_of_the_divergence(), changes=[parse_change("clip=0.5")])
    for one, other in zip(found.outcomes, truth.outcomes, strict=True):
        assert one.first_order
        assert not other.first_order
        assert one.update_norm == pytest.approx(other.update_norm, rel=1e-3)
        # A square loss is convex in the output: the first order is a lower bound of the change.
        assert one.loss_after <= (other.loss_after - other.loss) + 1e-3 * abs(other.loss)


def test_without_an_optimizer_one_is_made_like_the_runs(diverged):
    found = replay(open_case(diverged.path), *factory_of_the_divergence()[:3])
    assert found.reproduced


def test_a_kept_target_needs_no_luck(tmp_path):
    current = {}
    plan = rollback(every=10, bundles=bundles(batch=lambda: current["y"]))

    def loss(output, x):
        current["y"] = x.sum(1, keepdim=True) * 3.0
        return nn.functional.l1_loss(output, current["y"])

    bundle = recorded(tmp_path, MODELS["MLP"], "Adam", poisoned, loss=loss, plan=plan)
    model, batch, _, optimizer = made(MODELS["MLP"], "Adam")
    found = replay(
        open_case(bundle.path), model, batch, nn.L1Loss(), optimizer, changes=[parse_change("drop-rows")]
    )
    kept = by_label(found)["drop-rows"]
    assert kept.finite
    assert kept.loss > 0.0


def test_a_bundle_without_weights_says_so_and_uses_the_factorys(tmp_path):
    plan = rollback(every=10, bundles=bundles(state=False))
    bundle = recorded(tmp_path, MODELS["MLP"], "Adam", poisoned, plan=plan)
    found = replay(open_case(bundle.path), *made(MODELS["MLP"], "Adam"))
    assert "no weights (not asked for)" in found.notes[0]
    with pytest.raises(UsageError, match="returned no optimizer"):
        replay(open_case(bundle.path), *made(MODELS["MLP"], "Adam")[:3])


def test_a_step_that_does_not_reproduce_says_so(diverged):
    model, batch, _, optimizer = factory_of_the_divergence()
    case = open_case(diverged.path)
    with torch.no_grad():
        case.state["params"]["0.weight"].mul_(1.5)
    found = replay(case, model, batch, shifted, optimizer)
    assert not found.reproduced
    assert "Not reproduced" in text_of(found)


def text_of(found):
    file = StringIO()
    console = Console(width=160, file=file)
    for line in told(found):
        console.print(line)
    return file.getvalue()


def test_the_table_has_a_line_for_each_change(diverged):
    changes = [parse_change(text) for text in ("clip=0.5", "drop-rows", "skip")]
    text = text_of(replay(open_case(diverged.path), *factory_of_the_divergence(), changes=changes))
    assert "Reproduced: loss" in text
    for label in ("as it was", "no guard", "clip=0.5", "no row is known to carry the fault", "skipped"):
        assert label in text


def test_an_optimizer_without_eps_is_told(diverged):
    with pytest.raises(UsageError, match="SGD has no eps"):
        replay(open_case(diverged.path), *factory_of_the_divergence(), changes=[parse_change("eps=1e-3")])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: made(MODELS["CNN"], "SGD momentum"), "parameters don't fit"),
        (lambda: made(MODELS["MLP"], "Adam"), "optimizer is Adam, the run's was SGD"),
        (lambda: (*made(MODELS["MLP"], "SGD")[:3], made(MODELS["MLP"], "SGD")[3]), "aren't its model's"),
        (
            lambda: (
                nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 1)),
                *made(MODELS["MLP"], "SGD")[1:3],
            ),
            r"0.weight is \[9, 6\], and was \[8, 6\]",
        ),
    ],
)
def test_what_does_not_fit_is_told(diverged, make, words):
    with pytest.raises(UsageError, match=words):
        replay(open_case(diverged.path), *make())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clp=1", "Did you mean 'clip'"),
        ("clip", "expected a number above 0, got ''"),
        ("clip=nan", "expected a number above 0"),
        ("lr=-1", "expected a number above 0"),
        ("fp64=1", "takes no value"),
        ("policy=stedy", "did you mean 'steady'"),
        ("", "there is no change ''"),
    ],
)
def test_unknown_changes_are_told(text, words):
    with pytest.raises(UsageError, match=words):
        parse_change(text)


def test_commas_inside_a_call_belong_to_it():
    change = parse_change("policy=chain(agc(), clip_norm(1.0)),lr=0.5x")
    assert (change.policy.name, change.lr_factor) == ("chain", 0.5)
