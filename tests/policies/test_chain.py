from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.streams import factors, measurement, patient, poison, reading, similar_norms

from steadygrad.errors import PolicyError
from steadygrad.policies import Policy, adagc, agc, autoclip, chain, clip_norm, clip_value, zclip
from steadygrad.records import Incident

STREAMS = st.lists(st.one_of(similar_norms(), poison()), max_size=40)


class Slower(Policy):
    """Asks for less learning rate, wants parameter norms, and announces what it is told."""

    needs_param_norms = True

    def __init__(self, lr_factor):
        self.factor = lr_factor
        self.prepared_with = 0

    def prepare(self, tensors, param_norms):
        self.prepared_with = len(tensors)

    def lr_factor(self, measurement):
        return self.factor

    def learn(self, reading):
        return (Incident(reading.step, "engage", f"learnt by {self.factor}"),)

    def skipped(self, reading):
        return (Incident(reading.step, "skip", f"skip seen by {self.factor}"),)


@patient
@given(STREAMS)
def test_the_factor_is_the_smallest_of_all_policies(stream):
    made = (lambda: zclip(alpha=0.9), lambda: autoclip(window=5), lambda: clip_norm(1.5))
    each = [factors(make(), stream) for make in made]
    assert factors(chain(*(make() for make in made)), stream) == [
        min(step) for step in zip(*each, strict=True)
    ]


def test_one_factor_for_all_and_one_for_each_combine():
    per_tensor = adagc(warmup_steps=0)
    per_tensor.learn(reading([1.0, 1.0, 1.0]))
    grads = [torch.tensor([0.5]), torch.tensor([2.0]), torch.tensor([4.0])]
    both = chain(clip_norm(2.0), per_tensor).scale(measurement(grads))
    alone = 2.0 / float(measurement(grads).total_norm)
    assert both.tolist() == pytest.approx([alone, alone, 1.05 / 4.0])


def test_policies_without_a_factor_leave_the_others_theirs():
    measured = measurement([torch.tensor([4.0])])
    assert chain(clip_value(9.0), zclip()).scale(measured) is None
    assert float(chain(clip_value(9.0), clip_norm(1.0)).scale(measured)) == 0.25
    assert chain(clip_norm(1.0)).rewrite_(measured) is None


def test_rewriting_happens_in_order():
    grad, other = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.0]])
    weight = [torch.tensor([[100.0, 0.0]])]
    factor = chain(clip_value(3.5), agc(0.01)).rewrite_(measurement([grad], weight))
    chain(agc(0.01), clip_value(3.5)).rewrite_(measurement([other], weight))
    assert grad[0].tolist() == pytest.approx([3.0 / 21.25**0.5, 3.5 / 21.25**0.5])
    assert other[0].tolist() == pytest.approx([0.6, 0.8])
    assert float(factor) == pytest.approx(1 / 21.25**0.5)


def test_nested_chains_equal_flat_ones():
    stream = [1.0, 1.1, 0.9, 50.0, 1.0, 1.0, 30.0]
    flat = chain(zclip(), autoclip(), clip_norm(3.0))
    nested = chain(chain(zclip(), autoclip()), chain(clip_norm(3.0)))
    assert factors(nested, stream) == factors(flat, stream)
    assert nested.cap == flat.cap


def test_the_learning_rate_gets_the_smallest_factor_not_the_product():
    measured = measurement([torch.ones(2)])
    assert chain(Slower(0.5), clip_norm(1.0), Slower(0.8)).lr_factor(measured) == 0.5
    assert chain(clip_norm(1.0)).lr_factor(measured) == 1.0


def test_every_policy_is_prepared_and_told_and_heard():
    first, second = Slower(0.5), Slower(0.8)
    both = chain(first, second)
    both.prepare(measurement([torch.ones(1)] * 3).tensors, torch.ones(3).numpy())
    assert (first.prepared_with, second.prepared_with) == (3, 3)
    assert [i.reason for i in both.learn(reading([1.0]))] == ["learnt by 0.5", "learnt by 0.8"]
    assert [i.reason for i in both.skipped(reading([1.0]))] == ["skip seen by 0.5", "skip seen by 0.8"]


def test_the_cap_is_the_lowest_and_follows_what_is_learnt():
    both = chain(autoclip(), clip_norm(5.0))
    assert both.cap == 5.0
    both.learn(reading([2.0]))
    assert both.cap == pytest.approx(2.0)
    assert chain(clip_value(1.0)).cap is None


def test_a_chain_needs_what_any_of_its_policies_needs():
    assert chain(clip_norm(1.0), Slower(1.0)).needs_param_norms
    assert not chain(clip_norm(1.0)).needs_param_norms
    assert chain(clip_norm(1.0), autoclip()).always_on
    assert not chain(clip_norm(1.0), zclip()).always_on
    assert copy.deepcopy(chain(Slower(1.0))).needs_param_norms


def test_state_is_kept_by_position_and_counted():
    saved = chain(autoclip(), zclip())
    factors(saved, [1.0, 2.0, 3.0])
    restored = chain(autoclip(), zclip())
    restored.load_state_dict(saved.state_dict())
    assert restored.cap == saved.cap
    with pytest.raises(PolicyError, match="expected the state of 1 policies, got 2"):
        chain(autoclip()).load_state_dict(saved.state_dict())


def test_explain_gives_the_call_and_every_policy_a_line():
    both = chain(clip_norm(1.0), autoclip())
    assert both.explain() == ""
    both.learn(reading([4.0], 0.25))
    head, *lines = both.explain().splitlines()
    assert head.startswith("chain(clip_norm(1.0), autoclip(10.0, window=64)): ")
    assert [line.split(":")[0] for line in lines] == ["clip_norm(1.0)", "autoclip(10.0, window=64)"]


def test_an_empty_chain_is_refused():
    with pytest.raises(PolicyError, match="at least one policy"):
        chain()


@pytest.mark.parametrize("wrong", [1.0, "clip_norm", None])
def test_what_is_no_policy_is_refused_by_position(wrong):
    with pytest.raises(PolicyError, match="argument 1 must be a policy"):
        chain(clip_norm(1.0), wrong)


def test_a_forgotten_call_is_hinted_at():
    with pytest.raises(PolicyError, match="call it with its arguments first"):
        chain(clip_norm)
