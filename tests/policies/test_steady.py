from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.steps import SQUARE, Track, actions
from tests.policies.streams import patient

from steadygrad.measure import GroupHyper
from steadygrad.policies import steady
from steadygrad.policies.steady import rho_of
from steadygrad.records import Reading, TensorInfo

NORMS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60)
NAN, INF = math.nan, math.inf


def slow_sgd(norms, lrs, w=5.0, depth=2, mu=0.9):
    """Notes of the rule, one number after the other: (factor, factor of the rate) of each step."""
    tight = max(min(0.03, 0.15 / depth), 0.003)
    history, credit, buffer, out = [], 100.0, 0.0, []
    for norm, lr in zip(norms, lrs, strict=True):
        if not math.isfinite(norm):
            credit = max(credit - 1.0, 0.0)
            out.append((1.0, 1.0))
            continue
        bonus = 1.0
        if len(history) >= 5:
            recent = [math.log(one) for one in history[-32:]]
            roughness = max(recent) - statistics.median(recent)
            bonus += 4.0 * min(max(1.0 - roughness / math.log(3.0), 0.0), 1.0) * credit / 100.0
        cap = tight * bonus * w * (1.0 - mu) / lr
        factor = min(1.0, cap / norm)
        room = mu * buffer + cap
        out.append((factor, min(1.0, cap / (1.0 - mu) / room)))
        if len(history) >= 5:
            over = norm > tight * w * (1.0 - mu) / lr
            credit = min(max(credit + (-1.0 if over else 0.1), 0.0), 100.0)
        buffer = mu * buffer + factor * norm
        history.append(norm)
    return out


def said(run):
    return [(one.factor, one.lr_factor) for one in run]


@patient
@given(st.data(), NORMS)
def test_sgd_follows_the_slow_rule(data, norms):
    for _ in range(data.draw(st.integers(0, 3))):
        norms.insert(data.draw(st.integers(0, len(norms))), data.draw(st.sampled_from([NAN, INF])))
    lrs = [data.draw(st.sampled_from([0.01, 0.01, 0.01, 1.0])) for _ in norms]
    want = slow_sgd(norms, lrs)
    got = said(Track(steady(), momentum=0.9).run(norms, lrs))
    assert [one for pair in got for one in pair] == pytest.approx(
        [one for pair in want for one in pair], rel=1e-6
    )


@patient
@given(NORMS, st.integers(-40, 40))
def test_a_scaled_loss_with_the_rate_adapted_changes_nothing(norms, exponent):
    scale = 2.0**exponent
    plain = said(Track(steady(), momentum=0.9).run(norms, 0.1))
    scaled = said(Track(steady(), momentum=0.9).run([norm * scale for norm in norms], 0.1 / scale))
    assert [one for pair in scaled for one in pair] == pytest.approx([one for pair in plain for one in pair])


@patient
@given(st.lists(st.one_of(st.floats(1e-20, 1e20), st.sampled_from([NAN, INF])), min_size=1, max_size=30))
def test_adam_always_sees_a_gradient_of_norm_1(norms):
    for norm, one in zip(norms, Track(steady(), kind="adaptive").run(norms, 1e-3), strict=True):
        assert one.factor * norm == pytest.approx(1.0) if math.isfinite(norm) else one.untouched


def test_a_small_gradient_is_amplified_for_adam_and_a_zero_one_is_not():
    run = Track(steady(), kind="adaptive")
    assert run.take(1e-3, 1e-3).factor == pytest.approx(1000.0)
    assert run.take(0.0, 1e-3).factor == 1.0


def test_the_rate_of_adam_is_held_to_the_weights():
    run = Track(steady(), kind="adaptive")
    assert run.take(1.0, 1e-3).lr_factor == 1.0
    assert run.take(1.0, 1.0).lr_factor == pytest.approx(0.3 * 5.0 / math.sqrt(32))


@pytest.mark.parametrize("norms", [[1.0, 1.2, 0.9] * 70, [100.0, 1.0] * 100])
def test_at_a_constant_rate_and_budget_momentum_never_lowers_it(norms):
    run = Track(steady(), momentum=0.9).run(norms, 0.01)
    assert all(one.lr_factor == 1.0 for one in run)


def test_stored_momentum_survives_a_jump_of_the_rate():
    """The length of every update, with the momentum buffer carried along in plain numbers."""
    run, buffer, moved = Track(steady(), momentum=0.9), 0.0, []
    for step in range(60):
        lr = 1.0 if 40 <= step < 45 else 0.01
        one = run.take(1.0, lr)
        buffer = 0.9 * buffer + one.factor * 1.0
        moved.append(lr * one.lr_factor * buffer)
    assert max(moved) <= 5 * 0.03 * 5.0 * (1 + 1e-6)
    assert run.policy.explain().startswith("steady(): scaled 5 of 60 steps, lowered the rate in ")


def test_dampening_gives_room_and_the_momentum_is_bounded_all_the_same():
    """Against a buffer carried along in plain numbers, the first gradient whole as SGD takes it in."""
    run, buffer = Track(steady(), momentum=0.9), 0.0
    hyper = (GroupHyper(0.1, 0.9, "sgd", 0.5),)
    for step in range(50):
        measured = replace(run.measured([30.0, 0.0], [0.1]), groups=hyper)
        factor = float(run.policy.scale(measured))
        assert factor * 30.0 * 0.1 * 0.5 / 0.1 <= 5 * 0.03 * 5.0 * (1 + 1e-6)
        run.policy.lr_factor(measured)
        run.policy.learn(Reading(step, np.array([30.0, 0.0]), 30.0, clip_coef=factor))
        buffer = 0.9 * buffer + factor * 30.0 * (0.5 if step else 1.0)
        assert run.policy.stored_momentum == pytest.approx(0.9 * buffer)


def test_groups_of_different_rates_share_one_budget():
    parts, lrs = [3.0, 4.0], [0.1, 1.0]
    one = Track(steady()).take(0.0, lrs, parts)
    assert one.factor * math.hypot(0.1 * 3.0, 1.0 * 4.0) == pytest.approx(0.03 * 5.0)


def test_without_an_optimizer_the_median_is_the_cap():
    run = Track(steady(), kind=None)
    assert all(one.untouched for one in run.run([1.0, 2.0, 3.0, 4.0, 1000.0]))
    assert run.take(30.0).factor == pytest.approx(0.1)
    assert run.policy.cap == pytest.approx(3.0)


def test_a_network_of_zeros_can_leave_zero():
    zeros = Track(steady(), param_norms=[0.0, 0.0])
    lr = 0.1
    assert zeros.take(1.0, lr).factor * lr == pytest.approx(0.03 * math.sqrt(2 * 4 / 3))


@pytest.mark.parametrize(("depth", "rho"), [(1, 0.03), (5, 0.03), (10, 0.015), (50, 0.003), (1000, 0.003)])
def test_depth_tightens_the_budget_down_to_a_floor(depth, rho):
    assert rho_of(depth) == pytest.approx(rho)
    tensors = [TensorInfo(f"{i}", (4, 4)) for i in range(depth)]
    run = Track(steady(), tensors=tensors, param_norms=[2.0] * depth)
    assert run.take(1e6, 0.1).factor * 1e6 * 0.1 == pytest.approx(rho * 2.0 * math.sqrt(depth))


def test_a_calm_history_earns_room_and_nonfinite_steps_cost_it():
    calm = Track(steady())
    calm.run([0.1] * 20)
    assert calm.take(1e3).factor * 1e3 * 0.1 == pytest.approx(5 * 0.03 * 5.0)
    shaken = Track(steady())
    shaken.run([0.1] * 20 + [NAN] * 50)
    assert shaken.take(1e3).factor * 1e3 * 0.1 == pytest.approx(3 * 0.03 * 5.0)


def test_a_restored_policy_goes_on_as_the_original():
    norms = [1.0, 5.0, NAN, 0.5, 80.0] * 8
    whole, first, second = (
        Track(steady(), momentum=0.9),
        Track(steady(), momentum=0.9),
        Track(steady(), momentum=0.9),
    )
    want = said(whole.run(norms))
    first.run(norms[:17])
    second.policy.load_state_dict(json.loads(json.dumps(first.policy.state_dict())))
    assert said(second.run(norms[17:])) == want[17:]
    assert second.policy.explain() == whole.policy.explain()


def test_it_announces_nothing_and_is_meant_to_act_always():
    assert steady().always_on
    assert actions(Track(steady()).run([1.0, 100.0, NAN, 1.0])) == []
    assert steady().explain() == ""
    assert repr(steady()) == "steady()"


@pytest.mark.parametrize("kind", ["sgd", "adaptive", "other", None])
def test_no_number_is_needed_where_tensors_have_none(kind):
    run = Track(steady(), kind=kind, momentum=0.9, tensors=SQUARE)
    run.run([1.0] * 10)
    measured = run.measured([1.0, 1.0], [0.1, 0.3])
    measured.norms, measured.total_norm = measured.norms.to("meta"), measured.total_norm.to("meta")
    scale = run.policy.scale(measured)
    assert kind == "other" or isinstance(scale, torch.Tensor)
    assert run.policy.lr_factor(measured) <= 1.0
