from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.steps import SQUARE, Track
from tests.policies.streams import patient, reading

from steadygrad.measure import GroupHyper
from steadygrad.policies import Policy
from steadygrad.policies.relative import RelativeStep, facts_of, long_run_rate, shared_kind, single_rate
from steadygrad.records import TensorInfo

NORMS = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3)
RATES = st.lists(st.floats(1e-4, 10.0), min_size=3, max_size=3)
THREE = [TensorInfo(f"{i}.weight", (4, 4)) for i in range(3)]


def met(tensors, param_norms):
    relative = RelativeStep()
    relative.prepare(tensors, np.array(param_norms, np.float32))
    return relative


def step(norms, rates, momentum=0.9):
    return Track(Policy(), momentum=momentum, tensors=THREE, param_norms=[1.0] * 3).measured(norms, rates)


def test_a_matrix_weighs_at_least_what_default_initialisation_gives_it():
    torch.manual_seed(0)
    layer = torch.nn.Linear(300, 200)
    relative = met([TensorInfo("w", (200, 300))], [0.0])
    assert relative.weight_norm == pytest.approx(float(layer.weight.detach().norm()), rel=0.01)
    conv = torch.nn.Conv2d(32, 64, 3)
    relative = met([TensorInfo("w", (64, 32, 3, 3))], [0.0])
    assert relative.weight_norm == pytest.approx(float(conv.weight.detach().norm()), rel=0.01)


def test_embeddings_and_vectors_have_no_such_floor():
    tensors = [
        TensorInfo("e", (1000, 8)),
        TensorInfo("b", (50,)),
        TensorInfo("w", (3, 8)),
        TensorInfo("x", (0, 4)),
    ]
    assert met(tensors, [0.5, 0.25, 0.0, 0.0]).weight_norm == pytest.approx(math.sqrt(0.25 + 0.0625 + 1.0))


def test_the_tall_matrix_of_an_adapter_starts_at_zero_and_is_no_embedding():
    tensors = [TensorInfo("q.lora_A.weight", (8, 4096)), TensorInfo("q.lora_B.weight", (4096, 8))]
    assert met(tensors, [1.6, 0.0]).weight_norm == pytest.approx(math.sqrt(8 / 3 + 4096 / 3))


def test_a_set_without_any_matrix_counts_as_if_its_elements_were_one_at_least():
    relative = met([TensorInfo("gain", (3,)), TensorInfo("log_variance", ())], [0.01, 0.0])
    assert relative.weight_norm == pytest.approx(2.0)
    assert not relative.has_matrix
    assert met([TensorInfo("gain", (3,))], [50.0]).weight_norm == pytest.approx(50.0)


def test_weights_that_are_zero_or_nonfinite_say_nothing():
    relative = met([TensorInfo("b", (0, 4))], [0.0])
    assert relative.weight_norm is None
    relative = met(SQUARE, [3.0, 4.0])
    for bad in (math.nan, math.inf):
        relative._weigh(np.array([bad, 1.0], np.float32))
        assert relative.weight_norm == pytest.approx(5.0)


def test_depth_and_size_count_what_is_trained():
    frozen = TensorInfo("f", (9, 9), trainable=False)
    relative = met([*SQUARE, frozen, TensorInfo("b", (4,))], [1.0] * 4)
    assert (relative.depth, relative.numel) == (2, 36)


@patient
@given(NORMS, RATES, st.sampled_from([0.0, 0.5, 0.9]))
def test_reach_is_the_length_of_the_update_played_out(norms, rates, momentum):
    """Against the sum of a momentum buffer's whole future."""
    future = sum(momentum**k for k in range(400))
    slow = math.hypot(*(lr * future * norm for lr, norm in zip(rates, norms, strict=True)))
    relative = met(THREE, [1.0] * 3)
    assert float(relative.reach(step(norms, rates, momentum))) == pytest.approx(slow, rel=1e-6)


@patient
@given(NORMS, RATES)
def test_the_rate_of_the_whole_gradient_follows_who_has_it(norms, rates):
    relative, measured = met(THREE, [1.0] * 3), step(norms, rates)
    highest, lowest = max(rates) / (1 - 0.9), min(rates) / (1 - 0.9)
    assert relative.rate(measured) == pytest.approx(highest)
    relative.learn(reading(norms))
    assert relative.rate(measured) == pytest.approx(float(relative.reach(measured)) / math.hypot(*norms))
    assert lowest * (1 - 1e-9) <= relative.rate(measured) <= highest * (1 + 1e-9)


def test_a_jump_of_all_rates_counts_at_once():
    relative = met(THREE, [1.0] * 3)
    relative.rate(step([1.0, 1.0, 1.0], [0.1, 0.2, 0.3]))
    relative.learn(reading([1.0, 1.0, 1.0]))
    before = relative.rate(step([1.0, 1.0, 1.0], [0.1, 0.2, 0.3]))
    assert relative.rate(step([1.0, 1.0, 1.0], [10.0, 20.0, 30.0])) == pytest.approx(100 * before)


def test_no_gradient_at_all_leaves_the_rate_as_it_was():
    relative, measured = met(THREE, [1.0] * 3), step([3.0, 0.0, 0.0], [0.1, 0.2, 0.3])
    relative.rate(measured)
    relative.learn(reading([3.0, 0.0, 0.0]))
    before = relative.rate(measured)
    relative.learn(reading([0.0, 0.0, 0.0]))
    assert relative.rate(measured) == before == pytest.approx(1.0)


def test_groups_that_agree_share_a_rate_and_a_kind():
    a, b = GroupHyper(0.1, 0.9), GroupHyper(0.2, 0.8)
    assert single_rate([a, GroupHyper(0.1, 0.9)]) == long_run_rate(a) == pytest.approx(1.0)
    assert single_rate([a, GroupHyper(0.2, 0.9)]) is None
    assert long_run_rate(b) == pytest.approx(1.0)
    assert shared_kind([a, b]) == "sgd"
    assert shared_kind([a, GroupHyper(0.1, kind="adaptive")]) == "other"
    assert shared_kind([]) == "other"


def test_dampening_shortens_the_reach():
    assert long_run_rate(GroupHyper(0.1, 0.9, dampening=0.9)) == pytest.approx(0.1)


def test_a_tuple_of_groups_is_looked_through_once_and_a_list_may_change():
    groups = tuple(GroupHyper(0.1, 0.9) for _ in range(400))
    assert facts_of(groups) is facts_of(groups)
    listed = [GroupHyper(0.1)]
    assert single_rate(listed) == pytest.approx(0.1)
    listed.append(GroupHyper(0.2))
    assert single_rate(listed) is None


@patient
@given(st.lists(st.tuples(st.floats(1e-4, 1.0), st.sampled_from([0.0, 0.9])), min_size=1, max_size=4))
def test_facts_of_many_tuples_are_never_mixed_up(pairs):
    for _ in range(40):
        groups = tuple(GroupHyper(lr, mu) for lr, mu in pairs)
        facts = facts_of(groups)
        assert facts.rates == tuple(long_run_rate(group) for group in groups)
        assert (facts.lr, facts.momentum) == (max(lr for lr, _ in pairs), max(mu for _, mu in pairs))


def test_a_rate_of_zero_reaches_nowhere():
    assert 0.0 < long_run_rate(GroupHyper(0.0)) < 1e-30


def test_who_had_the_gradient_survives_a_restart():
    rates, fresh = [1.0, 0.1, 0.01], met(THREE, [1.0] * 3)
    relative = met(THREE, [1.0] * 3)
    relative.rate(step([1.0, 2.0, 2.0], rates))
    relative.learn(reading([1.0, 2.0, 2.0]))
    measurement = step([1.0, 2.0, 2.0], rates)
    fresh.load_state_dict(relative.state_dict())
    assert fresh.rate(measurement) == relative.rate(measurement) < met(THREE, [1.0] * 3).rate(measurement)
