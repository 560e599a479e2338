from __future__ import annotations

import pytest
import torch

from steadygrad.measure import group_hyper, group_kind

KINDS = {
    "SGD": "sgd",
    "Adam": "adaptive",
    "AdamW": "adaptive",
    "NAdam": "adaptive",
    "RAdam": "adaptive",
    "Adamax": "adaptive",
    "RMSprop": "adaptive",
    "Adagrad": "adaptive",
    "Adadelta": "other",
    "Rprop": "adaptive",
    "Adafactor": "adaptive",
    "LBFGS": "other",
    "ASGD": "other",
    "SparseAdam": "adaptive",
    "Muon": "other",
}


def group_of(name, **arguments):
    return getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(2, 2))], **arguments).param_groups[0]


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_kind_of_every_torch_optimizer(name, kind):
    if not hasattr(torch.optim, name):
        pytest.skip("this torch doesn't have it")
    arguments = {"lr": 0.1} if name == "SGD" else {}
    assert group_kind(group_of(name, **arguments)) == kind


def test_sgd_group_is_read():
    hyper = group_hyper(group_of("SGD", lr=0.25, momentum=0.9))
    assert (hyper.lr, hyper.momentum, hyper.kind) == (0.25, 0.9, "sgd")


def test_dampening_is_read_where_there_is_a_momentum_to_dampen():
    assert group_hyper(group_of("SGD", lr=0.1, momentum=0.9, dampening=0.5)).dampening == 0.5
    assert group_hyper(group_of("SGD", lr=0.1, dampening=0.5)).dampening == 0.0


def test_momentum_alone_does_not_make_an_unknown_optimizer_sgd():
    assert group_kind({"lr": 0.1, "momentum": 0.9}) == "other"


def test_momentum_of_rmsprop_does_not_make_it_sgd():
    assert group_hyper(group_of("RMSprop", lr=0.1, momentum=0.9)).kind == "adaptive"


def test_rate_kept_as_a_cpu_tensor_is_read():
    assert group_hyper(group_of("Adam", lr=torch.tensor(0.5))).lr == 0.5


def test_rate_kept_on_another_device_is_not_read():
    assert group_hyper({"lr": torch.tensor(0.5, device="meta"), "momentum": 0.0}).lr == 0.0


def test_a_group_without_rate_is_other():
    hyper = group_hyper({"params": []})
    assert (hyper.lr, hyper.momentum, hyper.kind) == (0.0, 0.0, "other")


def test_missing_momentum_counts_as_none():
    assert group_hyper({"lr": 1, "momentum": None}).momentum == 0.0
