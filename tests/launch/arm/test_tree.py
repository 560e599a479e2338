from __future__ import annotations

import pytest
import torch
from torch import nn

from steadygrad.launch.arm.tree import module_of, part_of


@pytest.fixture
def body():
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))


def names(module):
    return [name for name, _ in module.named_parameters()]


def test_a_part_in_training_is_named_by_the_whole_model(body):
    assert module_of(list(body[0].parameters())) is body


def test_wrappers_are_looked_through(body):
    wrapped = nn.DataParallel(body)
    assert module_of(list(wrapped.parameters())) is body


def test_a_copy_is_another_model(body):
    import copy

    other = copy.deepcopy(body)
    assert module_of(list(other.parameters())) is other


def test_models_under_one_optimizer_are_named_by_their_variables(body):
    head, temperature = nn.Linear(1, 1), nn.Parameter(torch.zeros(()))
    whole = module_of([*body.parameters(), *head.parameters(), temperature])
    assert type(whole).__name__ == "body and head"
    assert names(whole)[0] == "temperature"
    assert names(whole)[-1] == "head.bias"


def test_many_models_have_a_short_title():
    nets = [nn.Linear(1, 1) for _ in range(5)]
    whole = module_of([param for net in nets for param in net.parameters()])
    assert type(whole).__name__ == "nets[0], nets[1], nets[2] and 2 more"


def test_loose_tensors_are_named_by_their_variables():
    w, b = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
    assert names(module_of([w, b])) == ["w", "b"]


def test_what_is_left_of_a_replaced_layer_does_not_hide_the_model(body):
    held = list(body.parameters())
    body[1] = nn.Linear(2, 3)
    # The list that was made for the optimizer is no name of the layer.
    assert module_of(held) is body


def test_a_parameter_of_its_own_beside_part_of_a_model_stays_one(body):
    temperature = nn.Parameter(torch.zeros(()))
    whole = module_of([*body[0].parameters(), temperature])
    assert names(whole)[0] == "temperature"


def after_a_backward_pass(model, width):
    model(torch.ones(3, width)).sum().backward()


def test_a_replaced_layer_whose_name_a_loop_has_left_behind_does_not_hide_the_model(body):
    for _, layer in body.named_children():
        layer.train()
    held = list(body.parameters())
    body[1] = nn.Linear(2, 3)
    after_a_backward_pass(body, 2)
    assert module_of(held) is body
    assert layer.weight is held[2]


def test_a_layer_that_joins_later_is_no_replaced_one_beside_a_layer_left_untrained():
    body, late = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), nn.Linear(2, 2)
    after_a_backward_pass(body, 2)
    whole = module_of([*body[1].parameters(), *late.parameters()])
    assert "late.bias" in names(whole)


def test_nor_is_one_that_a_loop_and_something_else_holds(body):
    held = {}
    for layer in [nn.Linear(2, 2)]:
        held["late"] = layer
    after_a_backward_pass(body, 2)
    whole = module_of([*body[1].parameters(), *layer.parameters()])
    assert whole is not body


def test_nor_is_one_that_does_not_fit_there():
    body = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    for layer in [nn.Linear(7, 5)]:
        layer.train()
    after_a_backward_pass(body, 2)
    whole = module_of([*body[1].parameters(), *layer.parameters()])
    assert whole is not body


def test_a_second_model_that_gets_no_gradient_stays_one(body):
    adapter = nn.Linear(2, 2)
    after_a_backward_pass(body, 2)
    whole = module_of([*body.parameters(), *adapter.parameters()])
    assert names(whole)[-1] == "adapter.bias"


def test_nor_does_one_beside_a_part_that_another_optimizer_holds(body):
    adapter = nn.Linear(2, 2)
    other = torch.optim.SGD(body[1].parameters(), lr=0.1)
    after_a_backward_pass(body, 2)
    whole = module_of([*body[0].parameters(), *adapter.parameters()])
    assert {"adapter.bias", "body.1.bias"} <= set(names(whole))
    assert other.param_groups


def test_a_part_is_one_also_while_the_others_are_switched_off(body):
    for param in body[1].parameters():
        param.requires_grad_(False)
    assert part_of(body, list(body[0].parameters())) == "0"
    assert part_of(body, list(body.parameters())) == ""
