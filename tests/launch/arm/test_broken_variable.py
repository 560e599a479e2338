from __future__ import annotations

import torch

from steadygrad.launch.arm.objects import broken_variable

NAN, INF = float("nan"), float("inf")


def targets(value=NAN):
    numbers = torch.arange(12.0).reshape(6, 2)
    numbers[4, 1] = value
    return numbers


# What is written in an assert, pytest puts into variables.
def name_of(found):
    return None if found is None else found[0]


def test_the_targets_and_not_a_curve_that_is_still_to_be_filled():
    curve = torch.full((20,), NAN)
    depth = targets()
    name = name_of(broken_variable(depth.clone() / 2))
    assert name == "depth"
    name = name_of(broken_variable(depth[:, 1:].double()))
    assert name is None
    del curve


def test_no_other_where_the_targets_have_no_name():
    curve, other = torch.full((6, 2), NAN), targets().flip(0)
    name = name_of(broken_variable(targets()))
    assert name is None
    del curve, other


def test_a_batch_that_is_a_slice_of_its_data():
    unfilled, data = targets().T, targets()
    name = name_of(broken_variable(data[3:, 1:]))
    assert name == "data"
    del unfilled


def test_the_part_of_the_data_that_the_loss_has_met():
    both = [torch.cat([targets(), targets()])[:6], None]
    both[1] = torch.cat([targets(), targets()])[6:]
    name = name_of(broken_variable(both[1]))
    assert name == "both[1]"


def test_data_of_another_shape_that_was_copied():
    y = targets()[:, 1]
    name = name_of(broken_variable(y[:, None].double() - 1))
    assert name == "y"


def test_data_that_is_nan_throughout_is_known_by_its_memory_alone():
    curve, y = torch.full((6, 2), NAN), torch.full((6, 2), NAN)
    name = name_of(broken_variable(y))
    assert name == "y"
    name = name_of(broken_variable(y.clone()))
    assert name is None
    del curve


def test_an_infinite_target():
    nan, y = targets(), targets(INF)
    name = name_of(broken_variable(y.clone()))
    assert name == "y"
    del nan
