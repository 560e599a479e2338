from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.steps import Track
from tests.policies.streams import patient

from steadygrad.errors import PolicyError
from steadygrad.policies import relative_update

SIZES = st.floats(1e-12, 1e12)


def track(ratio=0.03, **how):
    return Track(relative_update(ratio), **how)


@patient
@given(SIZES, st.floats(1e-6, 100.0), st.sampled_from([0.0, 0.9, 0.99]), st.floats(0.001, 1.0))
def test_an_sgd_update_played_out_moves_the_weights_by_the_ratio_at_most(norm, lr, momentum, ratio):
    said = track(ratio, momentum=momentum).take(norm, lr)
    moved = said.factor * norm * lr / (1.0 - momentum)
    assert moved <= 5.0 * ratio * (1 + 1e-6)
    assert said.factor == pytest.approx(min(1.0, ratio * 5.0 * (1.0 - momentum) / (lr * norm)))
    assert said.lr_factor == 1.0


@patient
@given(st.floats(1e-6, 100.0), st.floats(0.001, 1.0), SIZES)
def test_for_adam_the_rate_is_held_instead(lr, ratio, norm):
    said = track(ratio, kind="adaptive").take(norm, lr)
    assert said.factor == 1.0
    assert said.lr_factor == pytest.approx(min(1.0, ratio * 5.0 / (lr * math.sqrt(32))))


@patient
@given(st.floats(0.01, 100.0), st.integers(-40, 40))
def test_a_scaled_loss_with_the_rate_adapted_changes_nothing(norm, exponent):
    scale = 2.0**exponent
    assert track().take(norm * scale, 0.1 / scale).factor == pytest.approx(track().take(norm, 0.1).factor)


@patient
@given(
    st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=2),
    st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=2),
)
def test_groups_of_different_rates_share_one_budget(parts, lrs):
    said = track().take(0.0, lrs, parts)
    reach = math.hypot(*(lr * part for lr, part in zip(lrs, parts, strict=True)))
    assert said.factor == pytest.approx(min(1.0, 0.15 / reach), rel=1e-5)


def test_the_cap_is_recorded():
    run = track(0.1, momentum=0.9)
    run.take(1.0, 0.1)
    assert run.policy.cap == pytest.approx(0.5)


def test_without_an_optimizer_or_a_rate_nothing_is_scaled():
    assert track(kind=None).take(1e9).untouched
    assert track(kind="other").take(1e9).untouched
    assert track().take(1e9, 0.0).untouched
    assert track(kind="adaptive").take(1e9, 0.0).untouched


def test_zero_and_nonfinite_gradients_are_left_alone():
    run = track()
    assert run.take(0.0).factor == 1.0
    for bad in (math.nan, math.inf):
        assert run.take(bad).untouched
    assert run.take(10.0).factor == pytest.approx(0.15)


def test_it_counts_and_restores_what_it_did():
    run = track()
    assert run.policy.explain() == ""
    run.run([0.1, 10.0, 100.0])
    other = relative_update()
    other.load_state_dict(run.policy.state_dict())
    assert other.explain() == run.policy.explain() == "relative_update(max_ratio=0.03): scaled 2 of 3 steps"


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, "one"])
def test_a_ratio_out_of_range_is_refused(bad):
    with pytest.raises(PolicyError, match=r"relative_update\(max_ratio="):
        relative_update(bad)
