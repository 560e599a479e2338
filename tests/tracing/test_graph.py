"""A loss that isn't finite: its graph tells where that began."""

from __future__ import annotations

import pytest
import torch
from tests.tracing.networks import Outer
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from steadygrad.origin import BESIDE
from steadygrad.tracing import broken_loss

NAN, INF = float("nan"), float("inf")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2, bias=False)

    def forward(self, x, inner=torch.tanh):
        return self.head(inner(self.norm(self.first(x))))


def data(value=None):
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    if value is not None:
        x[2, 1] = value
    return x


def origin(loss, model):
    found = broken_loss(loss, lambda params: model)
    return None if found is None else found.origin


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Outer(Net())


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_the_batch(model, value):
    found = origin(model(data(value)).square().mean(), model)
    assert (found.phase, found.operation, found.rows) == ("input", "data", (2,))
    assert "or what was computed of it" in str(found)
    assert found.kind == ("nan" if value is NAN else "inf")


def test_a_silence_whose_logarithm_enters_a_convolution():
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1))
    loud = torch.ones(4, 1, 6)
    loud[2] = 0.0
    found = origin(net(loud.log()).mean(), net)
    assert (found.phase, found.rows) == ("input", (2,))


@pytest.mark.parametrize(
    "loss_fn",
    [
        functional.mse_loss,
        functional.l1_loss,
        lambda out, t: ((out - t) ** 2).mean(),
        lambda out, t: (t - out).sum(),
    ],
    ids=["mse", "l1", "difference", "difference the other way"],
)
def test_the_targets(model, loss_fn):
    targets = torch.zeros(5, 2)
    targets[3, 0] = NAN
    found = origin(loss_fn(model(data()), targets), model)
    assert (found.phase, found.operation, found.rows) == ("loss", BESIDE, ())


@pytest.mark.parametrize(
    ("inner", "operation"),
    [
        (lambda h: functional.relu(functional.linear(h, torch.eye(4) * 1e30) * 1e30), "aten.mul"),
        (lambda h: ((h * 1e30) * 1e30).t().relu().t(), "aten.mul"),
        (lambda h: (h * 1e30 * 1e30)[:, :4].view(5, 4).relu(), "aten.mul"),
    ],
    ids=["relu", "transposed", "view of a slice"],
)
def test_what_only_hands_a_number_on_is_not_blamed(model, inner, operation):
    with torch.no_grad():
        model.net.norm.bias.fill_(1.0)
    assert origin(model(data(), inner).mean(), model).operation == operation


def test_a_division_by_the_number_of_things_of_which_there_are_none(model):
    count = torch.zeros(())
    output = model(data())
    found = origin(output.square().sum() / count + 0.1 * output.abs().mean(), model)
    assert (found.phase, found.operation, found.kind) == ("loss", "aten.div", "inf")


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda out, t: (t * out.log_softmax(1)).sum(),
        lambda out, t: torch.stack(
            [-row.log_softmax(0)[0] * one[0] for row, one in zip(out, t, strict=True)]
        ).sum(),
        lambda out, t: out.square().sum() / t.sum(),
    ],
    ids=["weights", "returns", "divisor"],
)
def test_a_factor_of_the_loss_is_no_part_of_the_batch(model, loss_fn):
    factor = torch.ones(5, 2)
    factor[3, 0] = NAN
    found = origin(loss_fn(model(data()), factor), model)
    assert (found.phase, found.operation, found.module) == ("loss", "loss_factor", None)
    assert "in a factor of the loss" in str(found)


def test_the_weights(model):
    with torch.no_grad():
        model.net.head.weight[0, 0] = NAN
    found = origin(model(data()).mean(), model)
    assert (found.phase, found.operation) == ("optimizer", "parameter")


@pytest.mark.parametrize(
    ("inner", "operation"),
    [
        (lambda h: (h - h).log(), "aten.log"),
        (lambda h: (h * 1e4).exp(), "aten.exp"),
        (lambda h: (-h.abs() - 1).sqrt(), "aten.sqrt"),
        (lambda h: h / (h - h), "aten.div"),
        (lambda h: (h.abs() + 2).acos(), "aten.acos"),
    ],
)
def test_an_operation_in_the_model(model, inner, operation):
    found = origin(model(data(), inner).mean(), model)
    assert (found.phase, found.operation, found.module) == ("forward", operation, "net")


@pytest.mark.parametrize(
    ("loss_fn", "operation"),
    [
        (lambda out: -(torch.log(out.relu() * 0) + torch.log(1 - out)).mean(), "aten.log"),
        (lambda out: (out.abs() * 1e4).exp().sum().neg(), "aten.exp"),
        (lambda out: (out / 0.0).square().mean(), "aten.div"),
    ],
)
def test_an_operation_of_the_loss(model, loss_fn, operation):
    found = origin(loss_fn(model(data())), model)
    assert (found.phase, found.operation, found.module) == ("loss", operation, None)


def test_a_mask_of_minus_infinity_is_not_blamed(model):
    scores = model(data()).masked_fill(torch.eye(5, 2, dtype=torch.bool), -INF).softmax(-1)
    assert origin(scores.log().clamp_min(-9).mean(), model) is None
    found = origin((scores.sum() - scores.sum()).log() - (scores.sum() - scores.sum()).log(), model)
    assert found.operation == "aten.log"


def test_a_finite_loss_and_one_without_a_graph_say_nothing(model):
    assert origin(model(data()).mean(), model) is None
    assert origin(torch.tensor(NAN), model) is None


def test_buffers_and_random_state_stay(model):
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
    loss = checkpoint(net, data(NAN), use_reentrant=False).mean() + net(data(NAN)).mean()
    before = torch.get_rng_state(), {name: one.clone() for name, one in net.state_dict().items()}
    assert origin(loss, net) is not None
    assert torch.equal(before[0], torch.get_rng_state())
    for name, one in net.state_dict().items():
        assert torch.equal(one.nan_to_num(), before[1][name].nan_to_num()), name
    loss.backward()
