"""What a guard has learnt survives a restart; what can't be that is refused."""

from __future__ import annotations

import pickle

import pytest
from tests.monitor.workloads import OPTIMIZERS, batches, bits, mlp, seeded, step, train

import steadygrad as sg
from steadygrad.errors import UsageError


def workload(name="SGD momentum"):
    model = seeded(mlp)
    return model, OPTIMIZERS[name](model.parameters())


def test_learnt_statistics_survive_a_restart():
    model, optimizer = workload()
    guard = sg.guard(model, optimizer, policy=sg.policies.zclip())
    train(model, optimizer, batches(8))
    state = pickle.loads(pickle.dumps(guard.state_dict()))
    guard.close()
    again = sg.guard(model, optimizer, policy=sg.policies.zclip())
    again.load_state_dict(state)
    assert bits(again.state_dict()["tracks"][0]["policy"]["tally"]) == bits(
        guard.state_dict()["tracks"][0]["policy"]["tally"]
    )
    step(model, optimizer, batches(1)[0])
    assert again.last.step == 8


@pytest.mark.parametrize(
    "state",
    [
        None,
        3,
        {},
        {"tracks": None},
        {"tracks": [None]},
        {"tracks": [{}]},
        {"tracks": [{"step": 1}]},
        {"tracks": "x"},
    ],
    ids=str,
)
def test_something_that_is_no_state_is_an_error_and_changes_nothing(state):
    model, optimizer = workload()
    guard = sg.guard(model, optimizer)
    train(model, optimizer, batches(2))
    with pytest.raises(UsageError, match=r"load_state_dict\("):
        guard.load_state_dict(state)
    assert guard.state_dict()["tracks"][0]["step"] == 2


def test_a_damaged_policy_state_is_an_error_and_changes_nothing():
    model, optimizer = workload()
    guard = sg.guard(model, optimizer, policy=sg.policies.zclip())
    train(model, optimizer, batches(2))
    before = bits(guard.state_dict())
    with pytest.raises(UsageError, match="can't be read"):
        guard.load_state_dict({"tracks": [{"step": 9, "policy": {"tally": None}}]})
    assert bits(guard.state_dict()) == before


def test_the_state_of_another_policy_is_an_error():
    (model, optimizer), (other, other_optimizer) = workload(), workload()
    guard = sg.guard(model, optimizer, policy=sg.policies.zclip())
    auto = sg.guard(other, other_optimizer)
    with pytest.raises(UsageError, match="policy Auto, the state is of ZClip"):
        auto.load_state_dict(guard.state_dict())


def test_the_state_of_another_guard_is_an_error():
    model, optimizer = workload()
    guard = sg.guard(model, optimizer)
    with pytest.raises(UsageError, match="expected the state of 1 optimizers, got 2"):
        guard.load_state_dict({"tracks": [{}, {}]})


@pytest.mark.parametrize(
    "policy", [None, sg.policies.steady(), sg.policies.zclip(), sg.policies.relative_update(0.5)]
)
def test_a_state_of_a_version_that_kept_less_is_completed(policy):
    (model, optimizer), (other, other_optimizer) = workload(), workload()
    guard = sg.guard(model, optimizer, policy=policy)
    train(model, optimizer, batches(4))
    state = guard.state_dict()
    learnt = state["tracks"][0]["policy"]
    for key in [key for key in learnt if key != "tally"]:
        del learnt[key]
    again = sg.guard(other, other_optimizer, policy=policy)
    again.load_state_dict(state)
    loaded = again.state_dict()["tracks"][0]
    assert (loaded["step"], loaded["policy"]["tally"]["seen"]) == (4, learnt["tally"]["seen"])
