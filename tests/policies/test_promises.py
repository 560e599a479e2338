"""What every policy of this package keeps, whatever its rule."""

from __future__ import annotations

import copy
import io
import itertools
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.reference import bits
from tests.policies.steps import SQUARE, Track
from tests.policies.streams import (
    factors,
    measurement,
    norms_of_any_size,
    patient,
    poison,
    reading,
    similar_norms,
)
from torch.utils._python_dispatch import TorchDispatchMode

from steadygrad import policies
from steadygrad.errors import PolicyError
from steadygrad.monitor import Monitor
from steadygrad.policies import (
    adagc,
    agc,
    auto,
    autoclip,
    chain,
    clip_norm,
    clip_value,
    relative_update,
    steady,
    zclip,
)

MAKERS = {
    "clip_norm": lambda: clip_norm(2.0),
    "clip_value": lambda: clip_value(2.0),
    "agc": lambda: agc(exclude=("head.*",)),
    "autoclip": autoclip,
    "zclip": zclip,
    "adagc": adagc,
    "adagc without warm-up": lambda: adagc(warmup_steps=0),
    "chain": lambda: chain(zclip(), adagc(warmup_steps=3), agc(), clip_value(2.0)),
}
ADAPTIVE = ["autoclip", "zclip", "adagc without warm-up"]
HOST_READS = ("_local_scalar_dense", "is_nonzero", "equal", "item", "nonzero", "unique_dim", "masked_select")

every_policy = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


class NoHostReads(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in HOST_READS:
            raise AssertionError(f"the host waited for the device: {func}")
        return func(*args, **(kwargs or {}))


def mixed_measurement(grad_scale=None):
    grads = [
        torch.full((3, 4), 5.0),
        torch.full((4,), 5.0, dtype=torch.bfloat16),
        None,
        torch.full((2, 2), 5.0 + 1.0j),
        torch.empty(0),
    ]
    return measurement(
        grads, [torch.ones(1) if g is None else torch.ones_like(g) for g in grads], grad_scale=grad_scale
    )


def taught(policy, count):
    for step in range(count):
        policy.learn(reading([1.0, 1.1, 0.0, 0.9 + 0.01 * (step % 7), 0.0]))
    return policy


@every_policy
@pytest.mark.parametrize("grad_scale", [None, 128.0])
def test_the_host_never_waits_for_the_device(make, grad_scale):
    policy, measured = taught(make(), 120), mixed_measurement(grad_scale)
    with NoHostReads():
        factor, rewritten = policy.scale(measured), policy.rewrite_(measured)
        policy.lr_factor(measured)
    assert factor is not None or rewritten is not None
    assert rewritten is None or rewritten.shape == ()
    assert factor is None or factor.shape in {(), (5,)}


@every_policy
@pytest.mark.parametrize("grad_scale", [None, 128.0])
def test_no_number_is_needed_where_tensors_have_none(make, grad_scale):
    """Tensors of the meta device can't be read at all, not even by a copy."""
    policy, measured = taught(make(), 120), mixed_measurement(grad_scale)
    for name in ("norms", "total_norm", "present", "grad_scale"):
        value = getattr(measured, name)
        setattr(measured, name, None if value is None else value.to("meta"))
    measured.grads = [grad.to("meta") for grad in measured.grads]
    measured.params = [weight.to("meta") for weight in measured.params]
    given_back = [policy.scale(measured), policy.rewrite_(measured)]
    assert all(factor is None or factor.is_meta for factor in given_back)


def test_the_watchman_himself_notices_a_read():
    with NoHostReads(), pytest.raises(AssertionError, match="the host waited"):
        float(torch.ones(()) * 2)


@every_policy
@patient
@given(stream=st.lists(st.one_of(similar_norms(), norms_of_any_size()), max_size=25))
def test_factors_lie_above_zero_and_up_to_one(make, stream):
    assert all(0.0 < factor <= 1.0 for factor in factors(make(), stream))


@every_policy
@patient
@given(data=st.data(), healthy=st.lists(similar_norms(), min_size=1, max_size=25))
def test_nonfinite_readings_change_nothing(make, data, healthy):
    poisoned = []
    for norm in healthy:
        poisoned += [*data.draw(st.lists(poison(), max_size=2)), norm]
    clean, dirty = make(), make()
    assert factors(dirty, poisoned) == factors(clean, healthy)
    assert pickle.dumps(dirty.state_dict()) == pickle.dumps(clean.state_dict())


@pytest.fixture
def one_rank_mesh():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
@pytest.mark.parametrize("make", [lambda: clip_value(1.0), agc])
@pytest.mark.parametrize("grad_scale", [None, 2.0])
def test_sharded_gradients_are_rewritten_like_whole_ones(one_rank_mesh, make, grad_scale):
    from torch.distributed.tensor import Shard, distribute_tensor

    weights, grads = [torch.ones(4, 3), torch.ones(3)], [torch.full((4, 3), 5.0), torch.full((3,), 7.0)]
    whole = measurement([grad.clone() for grad in grads], weights, grad_scale=grad_scale)
    sharded = measurement(grads, weights, grad_scale=grad_scale)
    sharded.grads = [distribute_tensor(grad, one_rank_mesh, [Shard(0)]) for grad in grads]
    sharded.params = [distribute_tensor(weight, one_rank_mesh, [Shard(0)]) for weight in weights]
    factor = make().rewrite_(sharded)
    assert type(factor) is torch.Tensor
    assert float(factor) == float(make().rewrite_(whole))
    for got, want in zip(sharded.grads, whole.grads, strict=True):
        assert torch.equal(got.full_tensor(), want)


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("rise", [3.0, 10.0, 100.0])
@pytest.mark.parametrize("calm", [6, 40, 300])
def test_a_lasting_rise_is_followed_within_64_steps_even_when_learning_one_step_late(name, rise, calm):
    policy, late, after = MAKERS[name](), None, []
    for step in range(calm + 100):
        norm = (1.0 + 0.01 * math.sin(step * step)) * (rise if step >= calm else 1.0)
        if late is not None:
            policy.learn(late)
        factor = policy.scale(measurement([torch.tensor([norm])]))
        after += [] if step < calm else [1.0 if factor is None else float(factor.min())]
        late = reading([norm])
    assert after[0] < 0.6
    assert min(after[63:]) >= 0.9


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("exponent", [-60, -20, 20, 60])
@patient
@given(stream=st.lists(st.floats(0.01, 100.0), max_size=25))
def test_adaptive_policies_ignore_the_scale_of_the_loss(name, exponent, stream):
    scaled = factors(MAKERS[name](), [norm * 2.0**exponent for norm in stream])
    assert scaled == pytest.approx(factors(MAKERS[name](), stream), rel=1e-9)


@every_policy
@patient
@given(
    before=st.lists(st.one_of(similar_norms(), poison()), max_size=25),
    after=st.lists(similar_norms(), max_size=25),
)
def test_a_restored_policy_goes_on_as_the_original(make, before, after):
    original, restored = make(), make()
    factors(original, before)
    factors(restored, [3.0, 7.0])
    restored.load_state_dict(pickle.loads(pickle.dumps(original.state_dict())))
    assert restored.cap == original.cap
    assert restored.explain() == original.explain()
    assert factors(restored, after) == factors(original, after)


@every_policy
def test_a_saved_state_does_not_move_with_the_policy(make):
    policy = taught(make(), 10)
    state = policy.state_dict()
    before = pickle.dumps(state)
    taught(policy, 20)
    assert pickle.dumps(state) == before


@every_policy
def test_memory_does_not_grow_with_the_steps(make):
    policy = taught(make(), 200)
    early = len(pickle.dumps(policy))
    assert len(pickle.dumps(taught(policy, 1000))) < early + 64


@every_policy
def test_small_gradients_stay_bit_identical(make):
    policy = taught(make(), 120)
    grads = [
        torch.full((3, 4), sign * 1e-4, dtype=d) for sign in (1, -1) for d in (torch.float32, torch.bfloat16)
    ]
    grads.append(torch.zeros(2))
    before = [bits(grad) for grad in grads]
    measured = measurement(grads)
    factor = policy.scale(measured)
    policy.rewrite_(measured)
    assert factor is None or factor.eq(1.0).all()
    assert [bits(grad) for grad in grads] == before


@every_policy
def test_the_repr_is_the_call_that_makes_the_policy(make):
    text = repr(make())
    assert repr(eval(text, vars(policies).copy())) == text


@every_policy
def test_explain_is_silent_at_first_and_counts_then(make):
    policy = make()
    assert policy.explain() == ""
    for _, clip_coef in zip(range(120), itertools.cycle([1.0, 1.0, 0.5]), strict=False):
        policy.learn(reading([1.0], clip_coef))
    assert "scaled 40 of 120 steps" in policy.explain()


@every_policy
def test_a_policy_that_has_learnt_gives_an_unlearnt_fresh_one(make):
    policy = taught(make(), 120)
    assert pickle.dumps(policy.fresh().state_dict()) == pickle.dumps(make().state_dict())
    assert policy.fresh().cap == make().cap
    assert repr(policy.fresh()) == repr(policy)
    assert pickle.dumps(copy.deepcopy(policy).fresh().state_dict()) == pickle.dumps(make().state_dict())


@every_policy
def test_torch_loads_a_state_without_trusting_the_file(make):
    policy, file = taught(make(), 120), io.BytesIO()
    torch.save(policy.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == policy.state_dict()


@pytest.mark.parametrize("make", [auto, steady, relative_update, lambda: chain(auto(), clip_norm(1.0))])
def test_so_do_policies_that_look_at_the_weights(make):
    run, file = Track(make(), tensors=SQUARE), io.BytesIO()
    run.run([1.0, 1.1, 0.9] * 40 + [1e6, 1.0])
    torch.save(run.policy.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == run.policy.state_dict()
    assert run.policy.fresh().state_dict() == make().state_dict() != run.policy.state_dict()


@every_policy
def test_a_fresh_copy_learns_on_its_own(make):
    policy = make()
    other = policy.fresh()
    taught(other, 50)
    assert pickle.dumps(policy.state_dict()) == pickle.dumps(make().state_dict())


@pytest.mark.parametrize(
    ("make", "argument", "values"),
    [
        (clip_norm, "max_norm", [0, -1.0, math.nan, math.inf, "one", "1", True, None]),
        (clip_value, "clip_value", [0, -1.0, math.nan, math.inf, "one", "1", True, None]),
        (agc, "clipping", [0, -1.0, math.nan, math.inf, "one", "1", True, None]),
        (autoclip, "percentile", [-1.0, 100.1, math.nan, math.inf, "one", "1", True, None]),
        (autoclip, "window", [0, -1, 1.5, math.nan, "one", "1", True, None]),
        (zclip, "z_threshold", [0, -1.0, math.nan, math.inf, "one", "1", True, None]),
        (zclip, "alpha", [-1.0, 0.5, 1.0, math.nan, math.inf, "one", "1", True, None]),
        (adagc, "relative_threshold", [0, -1.0, math.nan, math.inf, "one", "1", True, None]),
    ],
)
def test_arguments_out_of_range_are_refused_by_name_and_value(make, argument, values):
    for value in values:
        with pytest.raises(PolicyError, match=rf"{make.__name__}\({argument}=") as caught:
            make(**{argument: value})
        assert repr(value) in str(caught.value)
        assert "must" in str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("make", [auto, steady])
def test_a_rate_that_is_no_number_scales_nothing(make, bad):
    track = Track(make())
    for lrs in ([0.1, bad], [bad, 0.1], [bad, bad]):
        for _ in range(3):
            said = track.take(1e6, lrs, parts=[1e6, 1e5])
            assert (said.factor, said.incidents) == (1.0, ())


@pytest.mark.parametrize("make", [*MAKERS.values(), auto, steady, relative_update])
@pytest.mark.parametrize("late", [False, True], ids=["host", "device"])
@pytest.mark.parametrize("kind", ["sgd", "adamw", "fused"])
@pytest.mark.parametrize("after", [0, 130])
def test_a_step_of_zero_gradients_is_not_clipped(make, kind, late, after):
    torch.manual_seed(0)
    model = torch.nn.Linear(40, 50)
    if kind == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=kind == "fused")
    guard = Monitor("guard", model, [optimizer], make(), run=None, max_skips=10, overhead=1.0, late=late)
    for step in range(after + 12):
        optimizer.zero_grad()
        scale = 1e-4 * (step < after)
        (model(torch.randn(4, 40)).square().mean() * scale * (-1) ** step).backward()
        optimizer.step()
    silent = [one for one in guard.recent if one.step > after]
    found = [norm for one in silent for norm in (one.total_norm, *one.norms.tolist())]
    assert {(norm, math.copysign(1.0, norm)) for norm in found} == {(0.0, 1.0)}
    assert {one.clip_coef for one in silent} == {1.0}
    guard.close()
