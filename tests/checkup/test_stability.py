"""The stability limit against losses whose curvature is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steadygrad.checkup.sharpness import sharpness
from steadygrad.checkup.stability import limit


def quadratic(largest):
    """A model whose loss has the eigenvalues 1, 2 and ``largest``."""
    model = nn.Linear(3, 1, bias=False)
    curvature = torch.tensor([1.0, 2.0, largest])
    return model, torch.eye(3), lambda out: 0.5 * (curvature * out[:, 0] ** 2).sum()


@pytest.mark.parametrize("largest", [5.0, 1e3, 1e8])
def test_the_largest_eigenvalue_is_found(largest):
    model, batch, loss = quadratic(largest)
    found = sharpness(model, batch, loss)
    assert found.value == pytest.approx(largest, rel=0.02)
    assert found.uncertainty < 0.05


def test_a_networks_sharpness_is_its_hessians():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    batch, targets = torch.randn(16, 3), torch.randn(16, 1)

    def loss(out):
        return (out - targets).square().mean()

    shapes = {name: param.shape for name, param in model.named_parameters()}
    flat = torch.cat([param.detach().flatten() for param in model.parameters()])

    def of(flat):
        parts = flat.split([shape.numel() for shape in shapes.values()])
        params = {name: part.view(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}
        return loss(torch.func.functional_call(model, params, batch))

    exact = torch.linalg.eigvalsh(torch.autograd.functional.hessian(of, flat)).abs().max()
    assert sharpness(model, batch, loss).value == pytest.approx(float(exact), rel=0.05)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_sgd_is_stable_below_the_limit_and_not_above(momentum):
    model, batch, loss = quadratic(40.0)
    optimizer = torch.optim.SGD(model.parameters(), 1.0, momentum=momentum)
    bound = limit(model, optimizer, batch, loss).lr
    assert bound == pytest.approx((2 + 2 * momentum) / 40.0, rel=0.02)
    for factor, grows in ((0.9, False), (1.1, True)):
        torch.manual_seed(0)
        twin = quadratic(40.0)[0]
        descent = torch.optim.SGD(twin.parameters(), factor * bound, momentum=momentum)
        first = float(loss(twin(batch)).detach())
        for _ in range(200):
            descent.zero_grad()
            loss(twin(batch)).backward()
            descent.step()
        assert (float(loss(twin(batch)).detach()) > first) is grows


def test_adam_sees_the_curvature_through_its_preconditioner():
    model, batch, loss = quadratic(100.0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    assert limit(model, optimizer, batch, loss) is None  # no step yet
    loss(model(batch)).backward()
    optimizer.step()
    scale = (optimizer.state[model.weight]["exp_avg_sq"][0] / 1e-3).sqrt() + 1e-8
    exact = float((torch.tensor([1.0, 2.0, 100.0]) / scale).max())
    assert limit(model, optimizer, batch, loss).lr == pytest.approx(38.0 / exact, rel=0.03)


def test_without_a_second_derivative_there_is_no_limit():
    model = nn.Linear(3, 1)
    assert sharpness(model, torch.randn(4, 3), lambda out: out.mean()) is None
    assert limit(model, torch.optim.Adagrad(model.parameters()), torch.randn(4, 3), torch.mean) is None
