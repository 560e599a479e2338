from __future__ import annotations

import pytest
import torch

from steadygrad.launch.arm.losses import Losses


def test_losses_up_to_a_step_add_up_and_the_next_begins_anew():
    losses = Losses()
    losses.add(torch.tensor(2.0))
    losses.add([torch.tensor([3.0])])
    assert (float(losses.value), losses.round) == (5.0, 1)
    losses.end_round()
    losses.add(torch.tensor(float("nan")))
    assert losses.value.isnan()
    assert losses.round == 2


@pytest.mark.parametrize("gradient", [torch.tensor(-1.0), torch.tensor([-1.0]), (torch.tensor(-1.0),)])
def test_the_gradient_given_to_a_backward_pass_weights_its_loss(gradient):
    losses = Losses()
    losses.add(torch.tensor(2.0), gradient)
    assert float(losses.value) == -2.0


@pytest.mark.parametrize(
    "root", [torch.ones(2), torch.tensor(1), [torch.ones(()), torch.ones(())], None, "loss"]
)
def test_what_is_no_single_number_is_no_loss(root):
    losses = Losses()
    losses.add(root)
    assert losses.value is None


def test_the_scale_of_a_grad_scaler_is_taken_out_also_where_it_overflows():
    losses, scale = Losses(), torch.tensor(2.0**127)
    loss = torch.tensor(8.0, requires_grad=True) * 1
    scaled = loss * scale
    losses.scaled_by(scale, loss, scaled)
    losses.add(scaled)
    assert float(losses.value) == 8.0
    losses.end_round()
    losses.add(torch.tensor(2.0**126))
    assert float(losses.value) == 0.5
    losses.rescaled()
    losses.add(torch.tensor(3.0))
    assert float(losses.value) == 3.0
