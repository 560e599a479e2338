from __future__ import annotations

import numpy as np
import pytest

from steadygrad.detect import Context, over
from steadygrad.records import TensorInfo


def depth(count, gain, steps=60, sigma=0.3, seed=0):
    """Norms of ``count`` tensors; each is ``gain`` times the one nearer to the output."""
    rng = np.random.default_rng(seed)
    return gain ** np.arange(count - 1.0, -1.0, -1.0) * np.exp(sigma * rng.normal(size=(steps, count)))


@pytest.mark.parametrize(("count", "gain"), [(12, 0.3), (20, 0.4), (50, 0.7)])
@pytest.mark.parametrize("shape", [(8, 8), (8,)])
def test_decay_towards_the_input_is_found(stream, context, count, gain, shape):
    (finding,) = over(stream(depth(count, gain)), context(count, shape))
    assert (finding.kind, finding.severity) == ("vanishing_gradient", "warning")
    assert finding.where[0] == "layer0.weight"
    assert finding.evidence["gain_per_layer"] == pytest.approx(gain, rel=0.05)
    assert finding.evidence["span"] == pytest.approx(gain ** (count - 1), rel=0.9)


@pytest.mark.parametrize(("count", "gain"), [(12, 0.6), (100, 0.95), (5, 0.01), (20, 1.0), (20, 3.0)])
def test_mild_decay_shallow_nets_and_growth_are_silent(stream, context, count, gain):
    assert not over(stream(depth(count, gain, steps=400)), context(count))


def test_biases_tell_where_weights_are_flat(stream):
    tensors = [
        t for i in range(10) for t in (TensorInfo(f"{i}.weight", (8, 8)), TensorInfo(f"{i}.bias", (8,)))
    ]
    norms = np.ones((30, 20))
    norms[:, 1::2] = depth(10, 0.2, steps=30)
    (finding,) = over(stream(norms), Context(tuple(tensors)))
    assert finding.where[0] == "0.bias"


def test_size_of_a_tensor_does_not_matter(stream):
    sizes = [4**i for i in range(12)]  # norms of equal elements grow with the size
    context = Context(tuple(TensorInfo(f"{i}", (n, 1)) for i, n in enumerate(sizes)))
    norms = np.sqrt(np.array(sizes)) * np.exp(0.1 * np.random.default_rng(0).normal(size=(60, 12)))
    assert not over(stream(norms), context)


def test_convergence_of_all_layers_together_is_silent(stream, context):
    falling = 10.0 ** (-np.arange(2000.0) / 200)[:, None]
    assert not over(stream(falling * depth(12, 1.0, steps=2000)), context(12))


def test_biases_before_batch_norm_are_silent(stream):
    shapes = [(8, 8, 3, 3), (8,), (8,), (8,)] * 3 + [(4, 8), (4,)]
    context = Context(tuple(TensorInfo(f"{i}", shape) for i, shape in enumerate(shapes)))
    norms = depth(14, 1.0)
    norms[:, [1, 5, 9]] = 1e-9
    assert not over(stream(norms), context)


def test_zero_initialised_branches_are_silent(stream, context):
    norms = depth(16, 1.0)
    norms[:3, 1:15:2] = 0.0
    assert not over(stream(norms), context(16))


def test_embeddings_and_frozen_tensors_are_left_out(stream):
    tensors = [TensorInfo("embedding", (50000, 64)), TensorInfo("frozen", (8, 8), trainable=False)]
    tensors += [TensorInfo(f"{i}.weight", (8, 8)) for i in range(8)]
    norms = depth(10, 1.0)
    norms[:, 0], norms[:, 1] = 1e-12, 0.0
    assert not over(stream(norms), Context(tuple(tensors)))


def test_tensors_without_gradient_are_left_out(stream, context):
    norms = depth(10, 1.0)
    norms[:, :5] = 0.0
    absent = np.arange(10) < 5
    assert {f.kind for f in over(stream(norms, absent=absent), context(10))} == {"disconnected_parameters"}


def test_a_dead_input_side_is_found(stream, context):
    norms = depth(6, 1.0)
    norms[:, :4] = 0.0
    (finding,) = over(stream(norms), context(6))
    assert "4 of 6" in finding.summary
    assert finding.evidence["zero"] == 4


def test_an_input_side_that_dies_is_found_at_its_step(stream, context):
    norms = np.ones((40, 6))
    norms[3:, :4] = 0.0
    (finding,) = over(stream(norms), context(6))
    assert (finding.step, finding.where[0]) == (3, "layer0.weight")


def test_dead_tensors_in_the_middle_are_silent(stream, context):
    norms = depth(12, 1.0)
    norms[:, 3:10] = 0.0
    assert not over(stream(norms), context(12))


def test_no_gradient_from_the_start_is_found(stream, context):
    (finding,) = over(stream(np.zeros((40, 3))), context(3))
    assert (finding.severity, finding.step) == ("warning", 0)
    assert "exactly 0" in finding.summary


def test_death_after_a_few_steps_is_found_at_its_step(stream, context):
    norms = np.ones((60, 2))
    norms[9:] = 0.0
    (finding,) = over(stream(norms), context(2))
    assert (finding.severity, finding.step) == ("warning", 9)


def test_reaching_zero_after_learning_is_an_info(stream, context):
    norms = np.ones((150, 2))
    norms[100:] = 0.0
    (finding,) = over(stream(norms), context(2))
    assert finding.severity == "info"


def test_a_loss_of_zero_explains_a_gradient_of_zero(stream, context):
    assert not over(stream(np.zeros((60, 2)), loss=0.0), context(2))


def test_a_few_zero_steps_are_silent(stream, context):
    norms = np.ones((100, 2))
    norms[::2] = 0.0
    assert not over(stream(norms), context(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_readings_do_not_hide_the_decay(stream, context, bad):
    norms = depth(12, 0.2)
    norms[::3] = bad
    assert "vanishing_gradient" in {f.kind for f in over(stream(norms), context(12))}


@pytest.mark.parametrize("dead", [[0, 1, 2, 3], [0, 1, 2, 5]])
def test_where_and_summary_hold_the_dead_tensors_only(stream, context, dead):
    norms = np.ones((40, 6))
    norms[:, dead] = 0.0
    (finding,) = over(stream(norms), context(6))
    assert finding.kind == "vanishing_gradient"
    assert finding.where == tuple(f"layer{i}.weight" for i in dead)
    assert "4 of 6 tensors is exactly 0" in finding.summary
    assert not [i for i in set(range(6)) - set(dead) if f"layer{i}." in finding.summary]
