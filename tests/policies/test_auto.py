from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.steps import SQUARE, Track, actions
from tests.policies.streams import patient

import steadygrad as sg
from steadygrad.policies import auto, steady
from steadygrad.policies.footing import CALM, HEARD, REACH, RECENT, RECURRING, SLIP, SPIKE
from steadygrad.policies.hold import HOLD, PATIENCE
from steadygrad.records import Reading, TensorInfo

NAN, INF = math.nan, math.inf
WEIGHT_NORM = 5.0
WILD = st.lists(
    st.one_of(st.floats(0.5, 2.0), st.sampled_from([0.0, 30.0, 1e3, 1e6, NAN, INF])), min_size=1, max_size=80
)
SPANS = [0.02, 0.3, 10.0]


def slow(kind, norms, lr, mu=0.9):
    """The rule over whole lists of the past; `steady`, which has a reference of its own, gives the caps."""
    inner, logs, calm, since, out = Track(steady(), kind=kind, momentum=mu), [], HOLD, PATIENCE, []
    spikes, finite, was_spike = [], 0, False
    for step, norm in enumerate(norms):
        if not math.isfinite(norm):
            inner.policy.skipped(Reading(step, np.array([norm]), norm, skipped=True))
            out.append(1.0)
            continue
        q = {p: math.exp(np.quantile(logs[-80:], p)) if len(logs) >= 2 else INF for p in (0.05, 0.25)}
        last = math.exp(np.quantile(logs[-8:], 0.25)) if logs else INF
        engaged = calm < HOLD and since < PATIENCE
        if kind == "sgd":
            measured = inner.measured([norm, 0.0], [lr])
            held = float(inner.policy.scale(measured))
            inner.policy.lr_factor(measured)
            cap = inner.policy.cap
            span = WEIGHT_NORM * (1.0 - mu) / lr
            limit = min(REACH * span, math.sqrt(SLIP * span * max(q[0.25], last)))
            unrest, limit = max(min(limit, CALM * span), cap), max(limit, cap)
        elif len(logs) >= 2:
            cap, limit = q[0.25], SPIKE * max(q[0.25], last) * min(q[0.25] / q[0.05], 10.0)
            is_spike = norm > limit if norm > 0.0 else was_spike
            cap *= HEARD if len(spikes) >= RECURRING and finite - spikes[-RECURRING] <= RECENT else 1.0
            spikes += [finite + 1] if is_spike and not was_spike else []
            unrest = limit = max(limit, cap)
            held, was_spike = min(1.0, cap / norm) if norm > 0.0 else 1.0, is_spike
        else:
            held, limit, unrest = 1.0, INF, INF
        finite += 1
        factor = held if engaged or norm > limit else 1.0
        calm = 0 if norm > limit or (engaged and norm > unrest) else min(calm + 1, HOLD)
        since = 0 if norm > limit else since + 1
        inner.policy.learn(Reading(step, np.array([norm]), norm, clip_coef=factor))
        if norm > 0.0:
            logs.append(math.log(norm))
        out.append(factor)
    return out


@patient
@given(st.sampled_from(["sgd", "adaptive"]), WILD, st.sampled_from(SPANS))
def test_factors_match_the_slow_rule(kind, norms, lr):
    run = Track(auto(), kind=kind, momentum=0.9).run(norms, lr)
    assert [one.factor for one in run] == pytest.approx(slow(kind, norms, lr), rel=1e-6)


@patient
@given(WILD, st.integers(-40, 40))
def test_a_scaled_loss_with_the_rate_adapted_changes_nothing(norms, exponent):
    scale = 2.0**exponent
    plain = Track(auto(), momentum=0.9).run(norms, 0.1)
    scaled = Track(auto(), momentum=0.9).run([norm * scale for norm in norms], 0.1 / scale)
    assert [one.factor for one in scaled] == pytest.approx([one.factor for one in plain])
    assert actions(scaled) == actions(plain)


@patient
@given(
    st.lists(st.floats(0.5, 2.0), min_size=40, max_size=200),
    st.sampled_from(["sgd", "adaptive", "other", None]),
)
def test_ordinary_norms_are_left_alone(norms, kind):
    run = Track(auto(), kind=kind, momentum=0.9).run(norms, 0.01)
    assert all(one.untouched for one in run)
    assert actions(run) == []


@pytest.mark.parametrize("kind", ["sgd", "adaptive", None])
@pytest.mark.parametrize(
    "norms",
    [
        pytest.param([10.0 * 0.9**i for i in range(200)], id="falling by a half every 7 steps"),
        pytest.param([0.05 * min(1.15**i, 30.0) for i in range(200)], id="rising thirtyfold in 24 steps"),
        pytest.param([0.0, 0.0, 1.0, 0.0] * 50, id="mostly no gradient"),
        pytest.param([math.exp(1.2 * math.sin(i * i)) for i in range(300)], id="noisy tenfold"),
    ],
)
def test_healthy_shapes_are_left_alone(kind, norms):
    assert all(one.untouched for one in Track(auto(), kind=kind, momentum=0.9).run(norms, 1e-3))


def test_a_first_step_beyond_reach_is_held_to_the_budget_of_steady():
    one = Track(auto()).take(1e4, 0.1)
    assert one.factor * 1e4 * 0.1 == pytest.approx(0.03 * WEIGHT_NORM)
    assert [incident.action for incident in one.incidents] == ["engage"]


def test_every_step_of_a_bad_start_is_held_until_it_is_calm():
    run = Track(auto()).run([1e4] * 50 + [0.1] * (HOLD + 20), 0.1)
    # A quarter of the 32 steps that say whether the rate is too high have to be calm as well.
    assert actions(run) == [(0, "engage"), (49 + 8 + HOLD, "release")]
    assert all(one.factor < 1.0 for one in run[:50])
    assert all(one.untouched for one in run[50:])


@pytest.mark.parametrize("kind", ["adaptive", "other", None])
def test_a_norm_whose_square_leaves_float32_is_brought_to_1_from_the_first_step_on(kind):
    run = Track(auto(), kind=kind).run([1e27, 3e25, 1e19, 4e15, 7.0] + [0.5] * (HOLD + 1), 1e-3)
    held = [one.factor * norm for one, norm in zip(run, [1e27, 3e25, 1e19, 4e15, 7.0], strict=False)]
    assert held == pytest.approx([1.0] * 5)
    assert all(one.untouched for one in run[5:])
    assert actions(run) == [(0, "engage"), (4 + HOLD, "release")]
    assert "square float32" in run[0].incidents[0].reason


@pytest.mark.parametrize("kind", ["adaptive", "other", None])
def test_a_norm_that_float32_can_square_is_no_matter_of_size(kind):
    run = Track(auto(), kind=kind).run([9e17] * 50, 1e-3)
    assert all(one.untouched for one in run)


def test_adam_keeps_a_finite_second_moment_through_an_explosion():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 4))
    optimizer = torch.optim.Adam([weight], lr=0.01)
    with sg.guard(torch.nn.ParameterList([weight]), optimizer, recover=False):
        for _ in range(5):
            weight.grad = 1e25 * torch.randn(4, 4)
            before = weight.detach().clone()
            optimizer.step()
            assert not torch.equal(weight, before)
    assert torch.isfinite(optimizer.state[weight]["exp_avg_sq"]).all()


@pytest.mark.parametrize(("kind", "lr"), [("sgd", 0.1), ("adaptive", 1e-3), (None, 0.1)])
def test_a_spike_is_held_in_the_very_step_that_shows_it(kind, lr):
    run = Track(auto(), kind=kind)
    run.run([1.0, 1.1, 0.9] * 20, lr)
    spike = run.take(1e5, lr)
    assert spike.factor * 1e5 < 10.0
    assert run.policy.engaged


def test_a_spike_that_hardly_moves_the_weights_is_let_through():
    run = Track(auto())
    run.run([1.0] * 50, 1e-7)
    assert run.take(1e4, 1e-7).untouched


@pytest.mark.parametrize("kind", ["sgd", "adaptive", None])
def test_outliers_in_every_second_step_neither_hide_each_other_nor_the_good_steps(kind):
    run = Track(auto(), kind=kind).run([1.0, 1.1, 0.9, 1.0, *([1000.0, 1.0] * 100)], 0.1)
    landed = [one.factor * norm for one, norm in zip(run[4:], [1000.0, 1.0] * 100, strict=True)]
    assert max(landed) < (2.0 if kind == "sgd" else 1.1 * HEARD)
    assert min(landed[1::2]) > 0.9


@pytest.mark.parametrize("kind", ["adaptive", "other", None])
def test_a_rare_signal_that_keeps_coming_is_told_and_heard(kind):
    run = Track(auto(), kind=kind).run(([1.0] * 9 + [1e4]) * 30, 1e-3)
    heard = [one.factor * 1e4 for one in run[9::10]][RECURRING + 1 :]
    assert heard == pytest.approx([HEARD] * len(heard))
    told = [one for said in run for one in said.incidents]
    assert sum("belong to the run" in one.reason for one in told) == 1
    assert all(one.untouched for i, one in enumerate(run[150:]) if i % 10 != 9)


def test_the_first_lowering_of_a_rate_is_told_once():
    run = Track(auto(), kind="adaptive").run([1.0] * 60, 50.0)
    assert all(one.lr_factor < 1.0 for one in run)
    assert actions(run) == [(0, "engage")]
    assert "learning rate" in run[0].incidents[0].reason


@pytest.mark.parametrize(("kind", "lr"), [("sgd", 0.1), ("adaptive", 0.1)])
def test_a_few_coefficients_near_zero_may_grow(kind, lr):
    run = Track(auto(), kind=kind, momentum=0.9, tensors=[TensorInfo("w", (3,))], param_norms=[0.01])
    assert all(one.untouched for one in run.run([3.0 * 0.97**i for i in range(200)], lr))


def test_an_engagement_that_brings_no_new_sign_ends():
    run = Track(auto(), momentum=0.9).run([0.2] * 20 + [300.0] + [1.0] * (PATIENCE + 300), 0.1)
    assert run[20].factor < 1.0
    assert actions(run) == [(20, "engage"), (20 + PATIENCE, "release")]
    assert all(one.untouched for one in run[21 + PATIENCE :])


@pytest.mark.parametrize("kind", ["sgd", "adaptive", None])
@pytest.mark.parametrize("bad", [NAN, INF])
def test_one_nonfinite_step_neither_poisons_nor_engages_nor_releases(kind, bad):
    run = Track(auto(), kind=kind)
    assert actions(run.run([1.0] * 20 + [bad] + [1.0] * 20, 0.01)) == []
    assert run.take(1e5, 0.01).factor < 1e-3
    assert actions(run.run([bad] * 5, 0.01)) == []
    assert run.policy.engaged


@pytest.mark.parametrize(("kind", "lr"), [("sgd", 1e-3), ("adaptive", 1e-3), (None, 1e-3)])
@pytest.mark.parametrize("rise", [3.0, 10.0, 100.0])
@pytest.mark.parametrize("before", [5, 60, 300])
def test_a_lasting_rise_is_followed_within_64_steps(kind, lr, rise, before):
    norms = [1.0 + 0.01 * math.sin(i * i) for i in range(before)]
    norms += [rise * (1.0 + 0.01 * math.sin(i * i)) for i in range(200)]
    run = Track(auto(), kind=kind).run(norms, lr)
    assert all(one.factor > 0.9 for one in run[before + 64 :])
    assert not any(action == "engage" for step, action in actions(run) if step > before + 64)


def test_a_rate_a_hundred_times_too_high_for_five_steps_is_survived_with_momentum():
    run, buffer, moved = Track(auto(), momentum=0.9), 0.0, []
    for step in range(200):
        lr = 1.0 if 100 <= step < 105 else 0.01
        one = run.take(1.0, lr)
        assert one.untouched or step >= 100
        buffer = 0.9 * buffer + one.factor
        moved.append(lr * one.lr_factor * buffer / WEIGHT_NORM)
    assert max(moved) < 0.2  # 8 without the guard
    assert run.run([1.0] * 40, 0.01)[-1].untouched


def test_a_rate_that_alone_outruns_the_weights_is_lowered_for_adam():
    run = Track(auto(), kind="adaptive")
    assert run.take(1.0, 0.5).untouched
    assert run.take(1.0, 50.0).lr_factor * 50.0 * math.sqrt(32) == pytest.approx(WEIGHT_NORM)


def test_normalised_layers_do_not_count_as_depth():
    def limit(extra):
        tensors = [TensorInfo(f"{i}.weight", (4, 4)) for i in range(17)] + extra
        run = Track(auto(), tensors=tensors, param_norms=[1.0] * len(tensors))
        run.take(1e-3)
        return run.policy.cap

    gains = [TensorInfo(f"norm{i}.weight", (4,)) for i in range(12)]
    biases = [TensorInfo(f"{i}.bias", (4,)) for i in range(12)]
    assert limit(gains) == pytest.approx(2.0 * limit(biases))


def test_one_layer_may_go_far_and_still_not_everywhere():
    linear = {"tensors": [TensorInfo("weight", (10, 64))], "param_norms": [0.0]}
    assert Track(auto(), **linear).take(20.0, 1.0).untouched
    assert Track(auto(), **linear).take(1e6, 1.0).factor < 1e-3


@patient
@given(WILD, WILD, st.sampled_from(["sgd", "adaptive", "other", None]), st.sampled_from(SPANS))
def test_a_restored_policy_goes_on_as_the_original(before, after, kind, lr):
    original, restored = (Track(auto(), kind=kind, momentum=0.9) for _ in range(2))
    original.run(before, lr)
    restored.run([3.0, 1e9], lr)
    restored.policy.load_state_dict(json.loads(json.dumps(original.policy.state_dict())))
    went_on = [(one.factor, one.lr_factor) for one in restored.run(after, lr)]
    assert went_on == [(one.factor, one.lr_factor) for one in original.run(after, lr)]
    assert restored.policy.explain() == original.policy.explain()


@pytest.mark.parametrize("late", [1, 2])
def test_learning_late_holds_the_spike_just_the_same(late):
    run, waiting = Track(auto()), []
    for norm in [1.0] * 30 + [1e5] * 3:
        measured = run.measured([norm, 0.0], [0.1])
        factor = float(run.policy.scale(measured))
        run.policy.lr_factor(measured)
        assert factor == 1.0 if norm == 1.0 else factor * norm < 10.0
        waiting.append(Reading(0, np.array([norm]), norm, clip_coef=factor))
        if len(waiting) > late:
            run.policy.learn(waiting.pop(0))


@pytest.mark.parametrize("kind", ["sgd", "adaptive", "other", None])
@pytest.mark.parametrize("engaged", [False, True])
def test_no_number_is_needed_where_tensors_have_none(kind, engaged):
    run = Track(auto(), kind=kind, momentum=0.9, tensors=SQUARE)
    run.run([1.0] * 10 + [1e6] * engaged, 0.1)
    for lrs in ([0.1], [0.1, 0.3]):
        measured = run.measured([1.0, 1.0], lrs)
        measured.norms, measured.total_norm = measured.norms.to("meta"), measured.total_norm.to("meta")
        assert isinstance(run.policy.scale(measured), torch.Tensor)
        assert run.policy.lr_factor(measured) <= 1.0


def test_it_tells_what_it_did():
    run = Track(auto())
    assert run.policy.explain() == ""
    run.run([1.0] * 20 + [1e6] + [0.1] * 60)
    told = "auto(): engaged once, off now (steps with a sign: sudden rise 1); scaled 1 of 81 steps"
    assert run.policy.explain() == told
    assert repr(auto()) == "auto()"


def test_it_counts_the_steps_with_each_sign():
    start = Track(auto())
    start.run([1000.0] * 3 + [1e-3] * 60, 0.1)
    assert "(steps with a sign: too long for a start 3)" in start.policy.explain()
    hot = Track(auto())
    hot.run([0.1 * 1.1**i for i in range(63)] + [40.0] * 80, 0.1)
    assert "on now (steps with a sign: rate too high " in hot.policy.explain()
    again = auto()
    again.load_state_dict(json.loads(json.dumps(hot.policy.state_dict())))
    assert again.explain() == hot.policy.explain()


def test_memory_does_not_grow_with_the_steps():
    def size(policy):
        return len(json.dumps(policy.state_dict()))

    run = Track(auto())
    run.run([1.0 + 0.1 * math.sin(i) for i in range(200)], 0.1)
    early = size(run.policy)
    run.run([1.0 + 0.1 * math.sin(i) for i in range(1000)], 0.1)
    assert size(run.policy) < early + 200
