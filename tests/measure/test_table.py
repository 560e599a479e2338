from __future__ import annotations

import torch
from torch import nn

from steadygrad.measure import ParamTable, parameter_names


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


class DataParallel(nn.Module):
    """Named like torch's own, which needs a GPU."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def table_of(model, groups=None, **options):
    groups = groups or [{"params": list(model.parameters()), "lr": 0.1}]
    return ParamTable(parameter_names(model), groups, **options), groups


def names(table):
    return [tensor.name for tensor in table.tensors]


def test_names_are_those_of_the_model_in_its_order():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    params = list(model.parameters())
    table, _ = table_of(model, [{"params": params[2:], "lr": 0.1}, {"params": params[:2], "lr": 0.2}])
    assert names(table) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert all(a is b for a, b in zip(table.params, params, strict=True))
    assert table.group_of == [1, 1, 0, 0]


def test_tied_weights_appear_once_under_their_first_name():
    table, _ = table_of(Tied())
    assert names(table) == ["embedding.weight"]


def test_a_module_used_twice_appears_once():
    shared = nn.Linear(2, 2)
    table, _ = table_of(nn.Sequential(shared, nn.ReLU(), shared))
    assert names(table) == ["0.weight", "0.bias"]


def test_compiled_and_parallel_wrappers_leave_no_prefix():
    model = nn.Sequential(nn.Linear(2, 2))
    compiled = torch.compile(model, backend="eager")
    assert list(parameter_names(compiled).values()) == ["0.weight", "0.bias"]
    assert list(parameter_names(DataParallel(model)).values()) == ["0.weight", "0.bias"]
    assert list(parameter_names(DataParallel(compiled)).values()) == ["0.weight", "0.bias"]


def test_a_submodule_called_module_keeps_its_name():
    model = nn.Module()
    model.module = nn.Linear(2, 2)
    assert list(parameter_names(model).values()) == ["module.weight", "module.bias"]


def test_a_parameter_the_model_does_not_know_is_named_by_its_place():
    model = nn.Linear(2, 2)
    stranger = nn.Parameter(torch.ones(3))
    table, _ = table_of(model, [{"params": [stranger, *model.parameters()]}])
    assert names(table) == ["weight", "bias", "group0.param0"]


def test_shape_dtype_and_trainability_are_noted():
    model = nn.Linear(2, 3).to(torch.bfloat16)
    model.bias.requires_grad_(False)
    table, _ = table_of(model, optimizer=4)
    weight, bias = table.tensors
    assert (weight.shape, weight.dtype, weight.optimizer, weight.trainable) == ((3, 2), "bfloat16", 4, True)
    assert bias.trainable is False


def test_uninitialised_parameters_of_lazy_modules_are_listed():
    table, _ = table_of(nn.LazyLinear(3))
    assert names(table) == ["weight", "bias"]
    assert table.tensors[0].shape == ()


def test_growth_is_seen_and_appended_behind():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
    table, _ = table_of(model, optimizer.param_groups)
    assert not table.grown(optimizer.param_groups)
    optimizer.add_param_group({"params": model[0].parameters(), "lr": 0.5})
    assert table.grown(optimizer.param_groups)
    added = table.extend(optimizer.param_groups)
    assert [tensor.name for tensor in added] == ["0.weight", "0.bias"]
    assert names(table) == ["1.weight", "1.bias", "0.weight", "0.bias"]
    assert table.group_of == [0, 0, 1, 1]
    assert not table.grown(optimizer.param_groups)


def test_a_parameter_appended_to_a_group_in_place_is_seen():
    model = nn.Linear(2, 2)
    table, groups = table_of(model, [{"params": [model.weight], "lr": 0.1}])
    groups[0]["params"].append(model.bias)
    assert table.grown(groups)


def test_a_changed_rate_is_seen():
    table, groups = table_of(nn.Linear(2, 2))
    first = table.hyper(groups)
    assert table.hyper(groups) is first
    groups[0]["lr"] = 0.5
    assert table.hyper(groups)[0].lr == 0.5


def test_a_rate_tensor_changed_in_place_is_seen():
    table, groups = table_of(nn.Linear(2, 2))
    groups[0]["lr"] = torch.tensor(0.1)
    table.hyper(groups)
    groups[0]["lr"].fill_(0.7)
    assert abs(table.hyper(groups)[0].lr - 0.7) < 1e-6


def test_a_changed_momentum_is_seen():
    table, groups = table_of(nn.Linear(2, 2))
    groups[0]["momentum"] = 0.5
    table.hyper(groups)
    groups[0]["momentum"] = 0.9
    assert table.hyper(groups)[0].momentum == 0.9
