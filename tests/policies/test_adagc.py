from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.reference import AdaGCReference
from tests.policies.streams import measurement, norms_of_any_size, patient, poison, reading, similar_norms

from steadygrad.errors import PolicyError
from steadygrad.policies import adagc
from steadygrad.policies.adagc import PATIENCE

STEPS = st.lists(
    st.lists(st.one_of(similar_norms(), norms_of_any_size()), min_size=3, max_size=3), max_size=60
)


def factors_of(policy, stream):
    """Factors of each step, spread over all tensors, for a stream of norms of several tensors."""
    out = []
    for norms in stream:
        measured = measurement([torch.tensor([norm], dtype=torch.float64) for norm in norms])
        measured.norms = torch.tensor(norms, dtype=torch.float64)
        measured.total_norm = torch.tensor(math.hypot(*norms), dtype=torch.float64)
        factor = policy.scale(measured)
        out.append(torch.broadcast_to(factor, (len(norms),)).tolist())
        policy.learn(reading(norms))
    return out


@patient
@given(STEPS, st.floats(1.0, 3.0), st.floats(0.0, 0.99), st.integers(0, 10))
def test_factors_match_the_reference(stream, relative, beta, warmup):
    slow = AdaGCReference(relative, beta, warmup, 1.0)
    want = [slow.step(norms) for norms in stream]
    got = factors_of(adagc(relative, beta=beta, warmup_steps=warmup), stream)
    for fast, reference in zip(got, want, strict=True):
        assert fast == pytest.approx(reference, rel=1e-9)


@patient
@given(st.lists(poison(), min_size=1, max_size=3), st.integers(0, 2))
def test_a_poisoned_tensor_in_a_reading_changes_nothing_at_all(bad, position):
    policy = adagc(warmup_steps=2)
    factors_of(policy, [[1.0, 2.0, 3.0]] * 10)
    before = policy.state_dict()
    for value in bad:
        norms = [1.0, 2.0, 3.0]
        norms[position] = value
        policy.learn(reading(norms))
        policy.learn(replace(reading(norms), total_norm=4.0))
    after = policy.state_dict()
    assert after["tally"] == before["tally"]
    assert all(np.array_equal(after[key], before[key]) for key in ("gamma", "streak", "streak_min"))


def test_one_tensor_spikes_and_the_others_stay_whole():
    calm = [[1.0, 1.0, 1.0]] * 20
    assert factors_of(adagc(warmup_steps=0), [*calm, [1.0, 1000.0, 1.0]])[-1] == pytest.approx(
        [1.0, 1.05e-3, 1.0]
    )


def test_a_spike_shorter_than_the_patience_does_not_raise_the_average():
    stream = [[1.0]] * 50 + [[1000.0]] * (PATIENCE - 1) + [[1.0]] + [[1000.0]]
    (last,) = factors_of(adagc(warmup_steps=0), stream)[-1]
    assert last * 1000.0 < 1.1


def test_a_run_resumed_in_the_middle_of_a_streak_opens_on_time():
    policy, resumed = adagc(warmup_steps=0), adagc(warmup_steps=0)
    factors_of(policy, [[1.0]] * 50 + [[10.0]] * (PATIENCE - 1))
    resumed.load_state_dict(policy.state_dict())
    assert factors_of(resumed, [[11.0], [10.0]])[-1] == [1.0]


def test_the_paper_rule_alone_would_throttle_a_tenfold_rise_for_thousands_of_steps():
    gamma, steps = 1.0, 0
    while 1.05 * gamma < 0.9 * 10.0:
        gamma, steps = 0.98 * gamma + 0.02 * min(10.0, 1.05 * gamma), steps + 1
    repaired = factors_of(adagc(warmup_steps=0), [[1.0]] * 50 + [[10.0]] * (PATIENCE + 1))
    assert steps > 2000
    assert repaired[-1] == [1.0]


@pytest.mark.parametrize("warmup", [0, 5])
def test_a_tensor_that_starts_at_zero_is_not_frozen(warmup):
    stream = [[1.0, 0.0]] * 50 + [[1.0, 1.0]] * 20
    out = factors_of(adagc(warmup_steps=warmup, warmup_max_norm=100.0), stream)
    assert out[50:] == [[1.0, 1.0]] * 20


def test_a_tensor_that_starts_next_to_zero_opens_within_the_patience():
    stream = [[1.0, 1.0, 1e-30]] * 50 + [[1.0, 1.0, 1.0]] * (PATIENCE + 1)
    out = factors_of(adagc(warmup_steps=0), stream)
    assert out[50][2] == pytest.approx(1.05e-3)
    assert out[-1] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("scatter", "kept"), [(0.05, 0.99), (0.1, 0.95), (0.2, 0.8)])
def test_half_of_the_norms_of_a_new_noisy_level_keep_most_of_their_length(scatter, kept):
    noise = np.exp(scatter * np.random.default_rng(0).standard_normal(300))
    shifted = noise * np.where(np.arange(300) < 100, 1.0, 10.0)
    out = factors_of(adagc(warmup_steps=0), [[float(norm)] for norm in shifted])
    assert np.median([factor for (factor,) in out[164:]]) > kept


def test_a_steadily_growing_zero_initialised_branch_is_not_held_back():
    stream = [[1.0, 1e-6 * 1.2**i] for i in range(100)]
    passed = np.array([factor[1] for factor in factors_of(adagc(warmup_steps=0), stream)])
    assert passed[-1] * stream[-1][1] > 1.0


def test_absent_gradients_neither_end_a_streak_nor_move_an_average():
    level = [[1.0, 1.0]] * 30
    shifted = [[1.0, 5.0], [1.0, 0.0]] * PATIENCE
    out = factors_of(adagc(warmup_steps=0), [*level, *shifted, [1.0, 5.0]])
    assert out[-1] == [1.0, 1.0]


def test_tensors_that_join_later_are_taken_in():
    policy = adagc(warmup_steps=2)
    factors_of(policy, [[1.0]] * 5)
    out = factors_of(policy, [[1.0, 7.0], [1.0, 7.0], [1.0, 70.0]])
    assert out[0] == [1.0, 1.0]
    assert out[2] == pytest.approx([1.0, 0.105])


def test_the_state_of_a_larger_model_is_refused():
    policy = adagc(warmup_steps=0)
    factors_of(policy, [[1.0, 1.0]])
    with pytest.raises(PolicyError, match="averages of 2 tensors, got 1"):
        policy.scale(measurement([torch.ones(1)]))


def test_the_warm_up_clips_all_together_and_says_its_cap():
    policy = adagc(warmup_steps=2, warmup_max_norm=2.5)
    assert policy.cap == 2.5
    assert factors_of(policy, [[3.0, 4.0]] * 2) == [[0.5, 0.5]] * 2
    assert policy.cap is None


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("relative_threshold", 0.99),
        ("beta", 1.0),
        ("beta", -0.1),
        ("warmup_steps", -1),
        ("warmup_steps", 1.5),
        ("warmup_max_norm", 0.0),
    ],
)
def test_each_argument_is_checked(argument, value):
    with pytest.raises(PolicyError, match=rf"adagc\({argument}="):
        adagc(**{argument: value})
