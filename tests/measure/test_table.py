from __future__ import annotations

import gc
import weakref

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


class TestRegrouping:
    def test_a_parameter_put_in_anothers_place_is_seen_and_takes_its_row(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        table, groups = table_of(model)
        fresh = nn.Parameter(model[0].weight.detach().clone())
        model[0].weight = fresh
        groups[0]["params"][0] = fresh
        assert table.grown(groups)
        assert table.extend(groups) == []
        assert table.params[0] is fresh
        assert names(table) == ["0.weight", "0.bias", "1.weight", "1.bias"]
        assert not table.grown(groups)

    def test_an_equal_parameter_of_one_element_is_still_another(self):
        first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        groups = [{"params": [first]}]
        table = ParamTable({}, groups)
        groups[0]["params"][0] = second
        assert table.grown(groups)
        table.extend(groups)
        assert table.params[0] is second

    def test_another_shape_gets_a_row_of_its_own_behind(self):
        model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
        table, groups = table_of(model)
        model[1] = nn.Linear(2, 7, bias=False)
        groups[0]["params"][1] = model[1].weight
        assert [tensor.shape for tensor in table.extend(groups)] == [(7, 2)]
        assert names(table) == ["0.weight", "1.weight", "1.weight"]
        assert table.params[1].grad is None
        assert table.params[2] is model[1].weight

    def test_a_group_that_was_removed_leaves_rows_without_gradients(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        groups = [{"params": list(layer.parameters()), "lr": 0.1} for layer in model]
        table, _ = table_of(model, groups)
        for param in model.parameters():
            param.grad = torch.ones_like(param)
        gone = groups.pop(0)
        assert table.grown(groups)
        assert table.extend(groups) == []
        assert [param.grad is None for param in table.params] == [True, True, False, False]
        assert table.group_of == [0, 0, 0, 0]
        groups.append(gone)
        assert table.grown(groups)
        assert table.extend(groups) == []
        assert all(a is b for a, b in zip(table.params, model.parameters(), strict=True))
        assert table.group_of == [1, 1, 0, 0]

    def test_groups_in_another_order_are_seen(self):
        model = nn.Linear(2, 2)
        table, groups = table_of(model, [{"params": [p], "lr": i} for i, p in enumerate(model.parameters())])
        groups.reverse()
        assert table.grown(groups)
        table.extend(groups)
        assert table.group_of == [1, 0]
        assert [group.lr for group in table.hyper(groups)] == [1, 0]

    def test_a_head_added_after_attaching_has_its_name_in_the_model(self):
        model = nn.Sequential(nn.Linear(2, 2))
        table, groups = table_of(model)
        model.add_module("head", nn.Linear(2, 3))
        groups.append({"params": list(model.head.parameters())})
        assert [tensor.name for tensor in table.extend(groups)] == ["head.weight", "head.bias"]

    def test_names_do_not_keep_the_model_alive(self):
        model = nn.Linear(2, 2)
        held, found = weakref.ref(model), parameter_names(model)
        del model
        gc.collect()
        assert held() is None
        assert list(found.again().values()) == ["weight", "bias"]
