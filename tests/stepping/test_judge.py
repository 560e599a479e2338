from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.streams import measurement, patient
from torch import nn

from steadygrad.policies import Policy, chain, clip_norm, clip_value
from steadygrad.stepping import Applier, HandLoop
from steadygrad.stepping.judge import judge_again, judge_on_device, judge_on_host

JUDGES = {"host": judge_on_host, "device": judge_on_device}
both = pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)


def workload(values, fused=False):
    """One parameter per value, its gradient filled with it; None for no gradient."""
    params = [nn.Parameter(torch.ones(2)) for _ in values]
    for param, value in zip(params, values, strict=True):
        param.grad = None if value is None else torch.full((2,), float(value))
    optimizer = torch.optim.SGD(params, lr=1.0, fused=fused)
    applier = Applier(optimizer)
    applier.holder = optimizer  # an Applier holds it weakly
    step = measurement([param.grad for param in params], params)
    return params, applier, replace(step, known_total=float(step.total_norm))


class Fixed(Policy):
    """Asks for the same factors in every step."""

    def __init__(self, scale=None, lr=1.0):
        self._scale = scale
        self._lr = lr

    def scale(self, measurement):
        return None if self._scale is None else torch.as_tensor(self._scale, dtype=torch.float64)

    def lr_factor(self, measurement):
        return self._lr


@both
@pytest.mark.parametrize("fused", [False, True])
def test_a_policy_that_asks_for_nothing_changes_nothing(judge, fused):
    params, applier, step = workload([3.0, 4.0], fused)
    verdict = judge(step, Policy(), applier)
    applier.restore()
    assert [param.grad.tolist() for param in params] == [[3.0, 3.0], [4.0, 4.0]]
    assert (verdict.clip_coef, verdict.skipped, verdict.lr_factor, verdict.device_coef) == (
        1.0,
        False,
        1.0,
        None,
    )


@both
def test_factors_of_each_tensor_reach_the_right_ones_past_a_missing_gradient(judge):
    params, applier, step = workload([1.0, None, 1.0])
    verdict = judge(step, Fixed([0.5, 0.125, 0.25]), applier)
    assert params[1].grad is None
    assert [params[0].grad[0].item(), params[2].grad[0].item()] == [0.5, 0.25]
    coef = verdict.clip_coef if verdict.device_coef is None else float(verdict.device_coef)
    assert coef == 0.125


@both
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_nonfinite_step_is_left_out_and_the_policy_not_heeded(judge, poison):
    params, applier, step = workload([1.0, poison])
    verdict = judge(step, Fixed(0.5, lr=0.5), applier)
    assert verdict.skipped
    assert verdict.lr_factor == 1.0
    assert all(param.grad is None for param in params)
    applier.restore()
    assert params[0].grad.tolist() == [1.0, 1.0]


def test_on_the_device_a_fused_skip_is_a_flag_and_meets_no_nan_factor():
    params, applier, step = workload([1.0, math.nan], fused=True)
    optimizer = applier.holder
    verdict = judge_on_device(step, clip_norm(0.1), applier)
    assert not verdict.skipped
    assert float(optimizer.found_inf) == 1.0
    assert float(optimizer.grad_scale) == 1.0
    optimizer.step()
    applier.restore()
    assert [param.tolist() for param in params] == [[1.0, 1.0]] * 2


@both
def test_no_gradient_at_all_is_no_step_to_judge(judge):
    _, applier, step = workload([None, None])
    verdict = judge(step, Fixed(0.5, lr=0.5), applier)
    assert (verdict.clip_coef, verdict.lr_factor, verdict.skipped) == (1.0, 1.0, False)


@both
def test_the_smallest_factor_of_scaling_and_rewriting_is_told(judge):
    params, applier, step = workload([8.0, 1.0])
    verdict = judge(step, chain(clip_value(2.0), clip_norm(1e6)), applier)
    coef = verdict.clip_coef if verdict.device_coef is None else float(verdict.device_coef)
    assert coef == pytest.approx(0.25)
    assert params[0].grad.tolist() == [2.0, 2.0]


@both
@pytest.mark.parametrize(("asked", "done"), [(0.5, 0.5), (1.0, 1.0), (2.0, 1.0)])
def test_the_rate_is_only_ever_lowered(judge, asked, done):
    _, applier, step = workload([1.0])
    assert judge(step, Fixed(lr=asked), applier).lr_factor == done
    assert applier.holder.param_groups[0]["lr"] == done
    applier.restore()
    assert applier.holder.param_groups[0]["lr"] == 1.0


@both
def test_the_cap_is_told(judge):
    _, applier, step = workload([1.0])
    assert judge(step, clip_norm(0.7), applier).cap == 0.7


@patient
@given(
    st.lists(st.none() | st.floats(-(2.0**90), 2.0**90, width=32), min_size=1, max_size=5),
    st.floats(1e-3, 1e3),
)
def test_host_and_device_do_the_same(values, max_norm):
    results = []
    for judge in (judge_on_host, judge_on_device):
        params, applier, step = workload(values)
        verdict = judge(step, clip_norm(max_norm), applier)
        coef = verdict.clip_coef if verdict.device_coef is None else float(verdict.device_coef)
        results.append((coef, [None if param.grad is None else param.grad.tolist() for param in params]))
    assert results[0] == results[1]


def test_a_hand_loop_is_judged_the_same_way():
    params, _, step = workload([3.0])
    verdict = judge_on_host(step, clip_norm(1.0), HandLoop())
    assert verdict.clip_coef == pytest.approx(1 / (3 * math.sqrt(2)))
    assert params[0].grad.norm().item() == pytest.approx(1.0)


class TestAgain:
    def again(self, judge, policy, first, second, fused=False):
        """What a second evaluation of the same step comes to: its gradients, and both verdicts."""
        params, applier, step = workload([first], fused)
        verdict = judge(step, policy, applier)
        params[0].grad = torch.full((2,), second)
        later = measurement([params[0].grad], params)
        if judge is judge_on_host:
            later = replace(later, known_total=float(later.total_norm))
        return params[0], verdict, judge_again(later, policy, applier, verdict), applier

    @both
    @pytest.mark.parametrize("second", [1.0, 4.0, 1e6])
    def test_the_first_factor_is_applied_and_the_policy_not_asked(self, judge, second):
        param, first, verdict, _ = self.again(judge, clip_norm(math.sqrt(8.0)), 4.0, second)
        assert param.grad.tolist() == pytest.approx([second / 2] * 2)
        assert verdict == first

    @both
    def test_what_was_left_alone_stays_so(self, judge):
        param, _, _, _ = self.again(judge, clip_norm(100.0), 4.0, 1e6)
        assert param.grad.tolist() == [1e6, 1e6]

    @both
    def test_a_fixed_limit_holds_for_each_and_the_smallest_factor_is_told(self, judge):
        param, _, verdict, _ = self.again(judge, clip_value(2.0), 1.0, 8.0)
        assert param.grad.tolist() == [2.0, 2.0]
        coef = verdict.clip_coef if verdict.device_coef is None else float(verdict.device_coef)
        assert coef == pytest.approx(0.25)

    @both
    @pytest.mark.parametrize("poison", [math.nan, math.inf])
    def test_a_nonfinite_one_is_taken_away(self, judge, poison):
        param, _, verdict, _ = self.again(judge, clip_norm(1.0), 4.0, poison)
        assert verdict.skipped
        assert param.grad is None

    @pytest.mark.parametrize("poison", [math.nan, math.inf])
    def test_in_a_kernel_it_raises_the_flag(self, poison):
        _, _, verdict, applier = self.again(judge_on_device, clip_norm(1.0), 4.0, poison, fused=True)
        assert not verdict.skipped
        assert float(applier.holder.found_inf) == 1.0
        assert not applier.under_scaler

    def test_in_a_kernel_the_factor_is_not_applied_twice(self):
        _, _, _, applier = self.again(judge_on_device, clip_norm(math.sqrt(8.0)), 4.0, 4.0, fused=True)
        assert float(applier.holder.grad_scale) == pytest.approx(2.0)
        assert applier.loss_scale is None
