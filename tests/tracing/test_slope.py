"""A finite loss whose gradient isn't: the operation whose slope is infinite where it stands."""

from __future__ import annotations

import pytest
import torch
from tests.tracing.networks import Outer
from torch import nn

from steadygrad.tracing import broken_loss, steep_loss

INF = float("inf")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 2, bias=False)

    def forward(self, x, inner):
        return self.head(inner(self.first(x)))


def data():
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Outer(Net())


def gradients(model):
    return [param.grad for param in model.parameters() if param.grad is not None]


def blamed(loss, model):
    assert broken_loss(loss, lambda _: model) is None
    steep = steep_loss(loss, lambda _: model)
    assert steep.broken() is None
    loss.backward()
    found = steep.broken()
    return None if found is None else found.origin


@pytest.mark.parametrize(
    ("inner", "operation"),
    [
        (lambda h: (h - h.detach()).square().sqrt(), "SqrtBackward0"),
        (lambda h: (h - h.detach()).abs() ** 0.5, "PowBackward0"),
        (lambda h: torch.where(h > 1e9, (h - h.detach()).log(), h), "LogBackward0"),
        (lambda h: torch.where(h > 1e9, h / (h - h.detach()), h), "DivBackward0"),
    ],
)
def test_an_operation_with_an_infinite_slope_where_it_stands(model, inner, operation):
    loss = model(data(), inner).square().mean()
    assert loss.isfinite()
    found = blamed(loss, model)
    assert (found.phase, found.operation, found.module) == ("backward", operation, "net")
    assert not all(grad.isfinite().all() for grad in gradients(model))


def test_a_root_after_the_last_layer(model):
    found = blamed((model(data()) * 0).square().sum().sqrt(), model)
    assert str(found).startswith(
        "Inf first made by SqrtBackward0 in code after the model's last layer (backward)"
    )


def test_slopes_that_are_finite_say_nothing(model):
    def smooth(h):
        away = (h.square() + 1).sqrt() + (h.abs() + 1) ** 0.5 + (h - h.detach()) ** 2
        return away + h / 2 + (h.abs() + 1).log() + (h - h.detach()).norm()

    assert steep_loss(model(data(), smooth).mean(), lambda _: model) is None


def masked(h):
    return h.relu().sqrt()


def test_a_root_at_0_which_a_relu_leaves_out(model):
    assert blamed(model(data(), masked).square().mean(), model) is None
    assert all(grad.isfinite().all() for grad in gradients(model))


@pytest.mark.parametrize("inner", [masked, lambda h: (h - h.detach()).square().sqrt()])
def test_a_gradient_that_was_broken_before_it_came_to_the_root(model, inner):
    output = model(data(), inner)
    output.register_hook(lambda grad: grad * INF)
    assert blamed(output.square().mean(), model) is None


def test_a_gradient_that_is_broken_behind_a_root_that_does_no_harm(model):
    def inner(h):
        h.register_hook(lambda grad: grad * INF)
        return masked(model.net.second(h))

    assert blamed(model(data(), inner).square().mean(), model) is None
    assert not model.net.first.weight.grad.isfinite().all()


def test_gradients_that_were_left_broken_by_an_earlier_pass(model):
    (model(data(), torch.relu).mean() * INF).backward()
    assert blamed(model(data(), masked).square().mean(), model) is None


def test_of_two_roots_the_one_that_breaks_the_gradient(model):
    found = blamed(masked(model(data(), lambda h: (h - h.detach()).abs() ** 0.5)).mean(), model)
    assert found.operation == "PowBackward0"


def test_gradients_and_their_second_pass_stay_what_they_are(model):
    def passed(listen):
        model.zero_grad()
        loss = model(data(), masked).square().mean()
        steep = steep_loss(loss, lambda _: model) if listen else None
        loss.backward(retain_graph=True)
        loss.backward()
        return [grad.clone() for grad in gradients(model)], steep

    plain, _ = passed(listen=False)
    heard, steep = passed(listen=True)
    assert all(map(torch.equal, plain, heard))
    assert steep.broken() is None
