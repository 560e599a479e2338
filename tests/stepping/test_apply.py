from __future__ import annotations

import math

import pytest
import torch
from tests.policies.streams import measurement
from torch import nn

from steadygrad.stepping import Applier, ClipCall, HandLoop
from steadygrad.stepping.apply import multiply_

KINDS = {
    "float32": lambda: torch.full((3,), 4.0),
    "float16": lambda: torch.full((3,), 4.0, dtype=torch.float16),
    "bfloat16": lambda: torch.full((3,), 4.0, dtype=torch.bfloat16),
    "float64": lambda: torch.full((3,), 4.0, dtype=torch.float64),
    "complex": lambda: torch.full((3,), 4.0 + 2.0j),
    "scalar": lambda: torch.tensor(4.0),
    "empty": lambda: torch.empty(0),
    "sparse": lambda: torch.full((3,), 4.0).to_sparse(),
    "channels_last": lambda: torch.full((2, 3, 2, 2), 4.0).to(memory_format=torch.channels_last),
}


def dense(tensor):
    return tensor.to_dense() if tensor.layout != torch.strided else tensor


def workload(make=torch.optim.SGD, **options):
    model = nn.ParameterList([nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))])
    for param in model:
        param.grad = torch.full_like(param, 2.0)
    optimizer = make(model.parameters(), lr=0.5, **options)
    step = measurement([param.grad for param in model], list(model.parameters()))
    return list(model), optimizer, step


class TestMultiply:
    @pytest.mark.parametrize("factor_dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("each", [False, True])
    def test_every_kind_of_gradient_is_scaled_in_place(self, each, factor_dtype):
        grads = [make() for make in KINDS.values()]
        pointers = [id(grad) for grad in grads]
        expected = [dense(grad).clone() * 0.5 for grad in grads]
        shape = (len(grads),) if each else ()
        multiply_(grads, torch.full(shape, 0.5, dtype=factor_dtype))
        assert [id(grad) for grad in grads] == pointers
        for grad, want in zip(grads, expected, strict=True):
            assert grad.dtype == want.dtype
            torch.testing.assert_close(dense(grad), want, rtol=0.0, atol=0.0)

    def test_each_gradient_gets_its_own_factor(self):
        grads = [torch.ones(2), torch.ones(3), torch.ones(1).to_sparse()]
        multiply_(grads, torch.tensor([0.5, 0.25, 0.125]))
        assert [float(dense(grad)[0]) for grad in grads] == [0.5, 0.25, 0.125]

    def test_a_factor_of_one_changes_no_bit(self):
        grad = torch.tensor([-0.0, 1e-45, math.pi, -3e38])
        before = grad.clone().view(torch.int32)
        multiply_([grad], torch.ones((), dtype=torch.float64))
        assert torch.equal(grad.view(torch.int32), before)


class TestFused:
    @pytest.mark.parametrize(
        "make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad]
    )
    def test_only_a_fused_optimizer_takes_factors_in_its_kernel(self, make):
        assert Applier(workload(make, fused=True)[1]).takes_fused()
        assert not Applier(workload(make)[1]).takes_fused()

    def test_one_group_that_is_not_fused_is_enough_to_refuse(self):
        _, optimizer, _ = workload(torch.optim.Adam, fused=True)
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "fused": False})
        assert not Applier(optimizer).takes_fused()

    def test_sgd_takes_a_skip_only_once_every_momentum_buffer_exists(self):
        params, optimizer, _ = workload(torch.optim.SGD, momentum=0.9, fused=True)
        applier = Applier(optimizer)
        assert not applier.takes_fused_skip()
        assert not optimizer.state
        optimizer.step()
        assert applier.takes_fused_skip()
        late = nn.Parameter(torch.ones(1))
        optimizer.add_param_group({"params": [late]})
        assert applier.takes_fused_skip()  # it has no gradient: the kernel won't meet it
        late.grad = torch.ones(1)
        assert not applier.takes_fused_skip()
        assert late not in optimizer.state
        del params

    def test_without_momentum_or_with_adam_a_skip_is_taken_at_once(self):
        assert Applier(workload(torch.optim.SGD, fused=True)[1]).takes_fused_skip()
        assert Applier(workload(torch.optim.Adam, fused=True)[1]).takes_fused_skip()

    def test_a_factor_reaches_the_kernel_and_is_taken_back(self):
        params, optimizer, step = workload(fused=True)
        applier = Applier(optimizer)
        applier.scale_(step, torch.tensor(0.25, dtype=torch.float64))
        assert params[0].grad.tolist() == [2.0, 2.0]
        optimizer.step()
        applier.restore()
        assert params[0].tolist() == [0.75, 0.75]
        assert not hasattr(optimizer, "grad_scale")

    def test_a_loss_scale_that_is_there_already_is_multiplied_and_put_back(self):
        params, optimizer, step = workload(fused=True)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(0.0)
        applier = Applier(optimizer)
        assert applier.under_scaler
        assert float(applier.loss_scale) == 4.0
        applier.scale_(step, torch.tensor(0.5))
        applier.skip_where(torch.tensor(False))
        optimizer.step()
        applier.restore()
        assert params[0].tolist() == [0.875, 0.875]
        assert float(optimizer.grad_scale) == 4.0
        assert float(optimizer.found_inf) == 0.0

    @pytest.mark.parametrize("theirs", [0.0, 1.0])
    @pytest.mark.parametrize("ours", [False, True])
    def test_either_flag_skips(self, theirs, ours):
        params, optimizer, _ = workload(fused=True)
        optimizer.found_inf = torch.tensor(theirs)
        applier = Applier(optimizer)
        applier.skip_where(torch.tensor(ours))
        optimizer.step()
        applier.restore()
        assert (params[0].tolist() == [1.0, 1.0]) == bool(theirs or ours)

    def test_per_tensor_factors_are_multiplied_in(self):
        params, optimizer, step = workload(fused=True)
        Applier(optimizer).scale_(step, torch.tensor([0.5, 0.25]))
        assert [float(param.grad[0]) for param in params] == [1.0, 0.5]
        assert not hasattr(optimizer, "grad_scale")


class TestSkipAndRate:
    @pytest.mark.parametrize("ended", [True, False])
    def test_a_skip_takes_the_gradients_away_and_restore_brings_the_same_back(self, ended):
        params, optimizer, step = workload(momentum=0.9, weight_decay=0.1)
        grads = [param.grad for param in params]
        applier = Applier(optimizer)
        applier.skip(step)
        assert all(param.grad is None for param in params)
        optimizer.step()
        applier.restore(ended=ended)
        assert all(param.grad is grad for param, grad in zip(params, grads, strict=True))
        assert params[0].grad.tolist() == [2.0, 2.0]
        assert params[0].tolist() == [1.0, 1.0]
        applier.restore(ended=ended)
        assert params[0].grad is grads[0]

    def test_a_gradient_somebody_set_meanwhile_is_not_overwritten(self):
        params, optimizer, step = workload()
        applier = Applier(optimizer)
        applier.skip(step)
        fresh = torch.zeros(2)
        params[0].grad = fresh
        applier.restore()
        assert params[0].grad is fresh

    def test_the_rate_is_lowered_for_every_group_and_restored(self):
        _, optimizer, _ = workload()
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": torch.tensor(2.0)})
        rates = [group["lr"] for group in optimizer.param_groups]
        applier = Applier(optimizer)
        applier.scale_lr(0.5)
        assert [float(group["lr"]) for group in optimizer.param_groups] == [0.25, 1.0]
        applier.restore()
        assert all(group["lr"] is rate for group, rate in zip(optimizer.param_groups, rates, strict=True))


def test_a_clip_call_scales_at_once_and_skips_later():
    params, optimizer, step = workload(fused=True)
    call = ClipCall(optimizer)
    call.scale_(step, torch.tensor(0.5))
    call.skip(step)
    call.skip_where(torch.tensor(True))
    assert params[0].grad.tolist() == [1.0, 1.0]
    assert not hasattr(optimizer, "found_inf")
    call.leave_out_where()
    optimizer.step()
    call.restore()
    assert params[0].tolist() == [1.0, 1.0]
    assert not hasattr(optimizer, "found_inf")
    call.leave_out_where()
    assert not hasattr(optimizer, "found_inf")


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_hand_loop_skips_by_gradients_of_zero(poison):
    params, _, step = workload()
    params[0].grad.fill_(poison)
    HandLoop().skip(step)
    assert [param.grad.tolist() for param in params] == [[0.0, 0.0], [0.0, 0.0, 0.0]]


class TestRestoringLate:
    """The step raised: whatever was changed since, before anything could be put back, is kept."""

    @pytest.mark.parametrize("rate", [0.5, torch.tensor(0.5)], ids=["number", "tensor"])
    @pytest.mark.parametrize(("changed", "expected"), [(0.01, 0.1), (0.0125, 0.125), (0.4, 0.4), (0.0, 0.0)])
    def test_a_rate_changed_meanwhile_is_rescaled_only_if_it_was_made_of_the_lowered_one(
        self, rate, changed, expected
    ):
        _, optimizer, _ = workload()
        (group,) = optimizer.param_groups
        group["lr"] = rate
        applier = Applier(optimizer)
        applier.scale_lr(0.1)
        if isinstance(rate, torch.Tensor):
            group["lr"].fill_(changed)  # as a scheduler does
        else:
            group["lr"] = changed
        applier.restore()
        assert float(group["lr"]) == pytest.approx(expected)
        assert not isinstance(rate, torch.Tensor) or group["lr"] is rate

    def test_a_rate_of_another_kind_is_left_as_it_is(self):
        _, optimizer, _ = workload()
        applier = Applier(optimizer)
        applier.scale_lr(0.1)
        optimizer.param_groups[0]["lr"] = torch.tensor(0.3)
        applier.restore()
        assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.3)

    def test_gradients_of_a_backward_since_are_not_joined_by_old_ones(self):
        params, optimizer, step = workload()
        applier = Applier(optimizer)
        applier.skip(step)
        params[0].grad = torch.zeros(2)
        applier.restore()
        assert params[1].grad is None


def test_a_factor_of_ours_is_no_loss_scale_and_set_again_it_is_the_same():
    params, optimizer, step = workload(fused=True)
    applier = Applier(optimizer)
    for _ in range(2):
        applier.scale_(step, torch.tensor(0.5))
        assert applier.loss_scale is None
    optimizer.step()
    assert params[0].tolist() == [0.5, 0.5]
    optimizer.grad_scale = torch.tensor(4.0)
    applier = Applier(optimizer)
    applier.scale_(step, torch.tensor(0.5))
    assert float(applier.loss_scale) == 4.0
