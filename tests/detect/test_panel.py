from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadygrad.catalog import CATALOG
from steadygrad.detect import COOL_DOWN, COURSE, DETECTORS, PROBED, Context, Panel, over
from steadygrad.detect.finding import MAX_SUMMARY, MAX_WHERE
from steadygrad.records import Reading, TensorInfo

ODD = [0.0, -0.0, float("nan"), float("inf"), 1e-45, 1e-30, 1.0, 3e38]


@st.composite
def readings(draw, max_steps=60):
    """Streams of everything that can come in: odd values, gaps, skips, growing P, big jumps."""
    size, steps = draw(st.integers(1, 20)), draw(st.integers(1, max_steps))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    odd, gaps, grow = (
        draw(st.sampled_from([0.0, 0.02, 0.5, 1.0])),
        draw(st.booleans()),
        draw(st.integers(0, 2)),
    )
    rate = draw(st.sampled_from([1.0, 0.3, 2.0, 1e3]))
    logs = draw(st.booleans())
    result = []
    for step in range(steps):
        now = size + grow * (step // 20)
        with np.errstate(all="ignore"):
            norms = (np.exp(rng.normal(size=now)) * rate ** float(min(step, 60))).astype(np.float32)
        norms = np.where(rng.random(now) < odd, rng.choice(np.array(ODD, np.float32), now), norms)
        absent = rng.random(now) < rng.choice([0.0, 0.5, 1.0]) if gaps else None
        if absent is not None:
            norms = np.where(absent, np.float32(0), norms)
        with np.errstate(all="ignore"):
            total = float(np.sqrt(np.sum(norms.astype(np.float64) ** 2)))
        result.append(
            Reading(
                step,
                norms,
                total,
                absent=absent,
                clip_coef=float(rng.choice([1.0, 0.1])),
                skipped=bool(rng.random() < 0.1),
                overflow=bool(rng.random() < odd / 2),
                lr=float(rng.choice([0.0, 0.1])),
                loss=_loss(rng, odd, rate, step) if logs else None,
                **_weights(rng, odd, now),
            )
        )
    return result


def _loss(rng, odd, rate, step):
    with np.errstate(all="ignore"):
        usual = float(np.float32(rng.normal()) * np.float32(rate) ** np.float32(min(step, 60)))
    return float(rng.choice(ODD)) if rng.random() < odd else usual


def _weights(rng, odd, size):
    """Norms of parameters and updates, on some steps."""
    if rng.random() < 0.5:
        return {}
    norms = np.exp(rng.normal(size=(2, size))).astype(np.float32)
    norms = np.where(rng.random((2, size)) < odd, rng.choice(np.array(ODD, np.float32), (2, size)), norms)
    return (
        {"param_norms": norms[0]}
        if rng.random() < 0.3
        else dict(zip(("param_norms", "update_norms"), norms, strict=True))
    )


def shapes(size):
    kinds = [(16, 8), (16,), (5000, 8), (3, 3, 3, 3), (0, 4), ()]
    return tuple(TensorInfo(f"block.{i}.w", kinds[i % 6], trainable=i % 5 != 4) for i in range(size))


def brief(findings):
    return [(f.kind, f.severity, f.step, f.where) for f in findings]


@given(readings())
@settings(deadline=None, max_examples=120)
def test_no_stream_raises_and_every_finding_is_whole(stream):
    for finding in over(stream, Context(shapes(stream[0].norms.size))):
        assert finding.kind in CATALOG
        assert finding.causes
        assert finding.remedies
        assert finding.reference
        assert 0 < len(finding.summary) <= MAX_SUMMARY
        assert len(finding.where) <= MAX_WHERE
        assert 0 <= finding.step <= stream[-1].step
        assert all(isinstance(value, float) for value in finding.evidence.values())


@pytest.mark.parametrize("detector", [*DETECTORS, *PROBED, *COURSE], ids=lambda d: type(d).__name__)
@given(stream=readings(max_steps=40))
@settings(deadline=None, max_examples=25)
def test_detectors_are_pure(detector, stream):
    context = Context(shapes(stream[0].norms.size))
    state = detector.start()
    states = [state]
    first = []
    for reading in stream:
        before = reading.norms.copy()
        state, finding = detector.observe(state, reading, context)
        states.append(state)
        first.append(finding)
        np.testing.assert_array_equal(reading.norms, before)
    for state, reading, finding in zip(states, stream, first, strict=False):  # old states, once more
        again = detector.observe(state, reading, context)[1]
        assert repr(again) == repr(finding)


@given(readings(), st.sampled_from([2.0**-20, 2.0**-3, 2.0**10, 2.0**20]))
@settings(deadline=None, max_examples=60)
def test_scaling_every_norm_changes_no_finding(stream, scale):
    context = Context(shapes(stream[0].norms.size))
    wide = [replace(r, norms=r.norms.astype(np.float64)) for r in stream]
    scaled = [replace(r, norms=r.norms * scale, total_norm=r.total_norm * scale) for r in wide]
    # Where float32 ends is no matter of scale: beyond it a broken step is the gradient's fault, not the state's.
    relative = [
        [one for one in brief(over(run, context)) if one[0] != "optimizer_state_corrupt"]
        for run in (scaled, wide)
    ]
    assert relative[0] == relative[1]


def test_order_of_equal_tensors_changes_nothing_but_names(stream, context):
    rng = np.random.default_rng(0)
    norms = np.exp(rng.normal(size=(60, 5)))
    norms[40:] *= 1e4
    order = [3, 1, 4, 0, 2]
    straight, mixed = over(stream(norms), context(5)), over(stream(norms[:, order]), context(5))
    assert [(f.kind, f.step) for f in straight] == [(f.kind, f.step) for f in mixed]
    names = [{f"layer{order[int(n[5:-7])]}.weight" for n in f.where} for f in mixed]
    assert names == [set(f.where) for f in straight]


@pytest.mark.parametrize("value", [1e-30, 1.0, 1e30])
def test_a_constant_stream_never_fires(stream, context, value):
    assert not over(stream(np.full((700, 12), value)), context(12))


def test_live_and_recorded_give_the_same(stream, context):
    norms = np.ones((50, 3))
    norms[20:, 1] = np.nan
    panel = Panel(context(3))
    live = [finding for reading in stream(norms) for finding in panel.observe(reading)]
    assert brief(live) == brief(over(stream(norms), context(3)))
    assert [f.kind for f in live] == ["nonfinite_gradient"]


def test_other_optimizers_are_passed_over(stream, context):
    bad = stream(np.full((3, 2), np.nan), optimizer=1)
    assert not over(bad, context(2))
    (finding,) = over(bad, context(2, optimizer=1))
    assert finding.optimizer == 1


def test_a_lasting_fault_gives_a_handful_of_findings(stream, context):
    norms = np.ones((20 * COOL_DOWN, 4))
    norms[::3, 2] = np.inf
    steps = [f.step for f in over(stream(norms), context(4))]
    assert 3 <= len(steps) <= 6
    pauses = np.diff(steps)
    assert pauses[0] >= COOL_DOWN
    assert all(later >= 1.9 * earlier for earlier, later in itertools.pairwise(pauses))


def test_a_worse_finding_passes_at_once(stream, context):
    norms = np.exp(np.random.default_rng(0).normal(0, 0.1, size=(120, 3)))
    norms[100:] *= 100.0
    norms[104:] *= 1e6
    found = [(f.severity, f.step) for f in over(stream(norms), context(3)) if f.kind == "exploding_gradient"]
    assert [severity for severity, _ in found] == ["info", "warning", "error"]
    assert all(step == 100 for _, step in found)


def test_parameters_may_join(stream, context):
    rng = np.random.default_rng(0)
    early, late = np.exp(rng.normal(size=(40, 3))), np.exp(rng.normal(size=(40, 5)))
    late[30:, 4] = np.nan
    panel = Panel(context(3))
    found = [f for r in stream(early) for f in panel.observe(r)]
    panel.extend([TensorInfo("head.weight", (4, 4)), TensorInfo("head.bias", (4,))])
    found += [f for r in stream(late) for f in panel.observe(r)]
    (finding,) = found
    assert finding.where == ("head.bias",)


def test_readings_may_be_ahead_of_the_announcement(stream, context):
    norms = np.ones((40, 5))
    norms[30:, 4] = np.nan
    (finding,) = over(stream(norms), context(3))
    assert finding.where == ("parameter 4",)


def test_the_room_never_imports_torch():
    code = "import sys, steadygrad.detect, steadygrad.catalog; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
