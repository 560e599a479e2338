from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steadygrad.records import Finding, TensorInfo
from steadygrad.report.page.data.depth import snowball
from steadygrad.report.page.data.raster import raster
from steadygrad.report.page.data.words import snowball_words
from steadygrad.report.page.figures.snowball import snowball_sketch, told
from steadygrad.report.profile import profile
from steadygrad.runfile import open_run


def test_growth_and_the_stretch_that_carries_it():
    norms = np.concatenate([np.full(10, 1024.0), 1024.0 * 0.5 ** np.arange(1, 10), np.full(10, 2.0)])
    made = profile(7, norms)
    assert made.factor == pytest.approx(512.0)
    assert (made.first, made.last) == (9, 18)
    assert made.telling
    assert "x2 each from w18 back to w9, x512 in all" in told(made, tuple(f"w{i}" for i in range(29)))


def test_a_straight_line_is_fitted_exactly():
    assert profile(0, 3.0 ** -np.arange(40.0)).per_layer == pytest.approx(3.0)
    assert profile(0, 0.5 ** -np.arange(400.0)).per_layer == pytest.approx(0.5)


@settings(deadline=None)
@given(hnp.arrays(np.float64, st.integers(0, 30), elements=st.floats(0, width=64) | st.just(np.nan)))
def test_any_numbers_have_a_profile(norms):
    made = profile(0, norms)
    assert np.isfinite(made.per_layer) or made.per_layer == np.inf
    assert 0 <= made.first <= made.last <= max(len(norms) - 1, 0)
    assert told(made, ("w",) * len(norms)).startswith("Step 0: ")


def test_the_worst_finding_is_shown_first(record):
    norms = np.ones((3000, 4))
    norms[2000] = [1e6, 1e4, 1e2, 1.0]
    with open_run(record(norms)) as run:
        made = snowball(raster(run), [Finding("exploding_gradient", "error", 2000, (), "")])
    assert made.profiles[made.shown].factor == pytest.approx(1e6, rel=0.01)
    assert made.names == tuple(f"layers.{i}.weight" for i in range(4))


@pytest.mark.parametrize(("lost", "shown"), [(range(1, 300), 0), (range(150, 300), 149), (range(300), 1)])
def test_where_the_worst_step_has_no_number_the_last_before_it_is_shown(record, lost, shown):
    norms = np.ones((300, 4)) * [4.0, 3.0, 2.0, 1.0]
    norms[list(lost)] = np.nan
    found = Finding("nonfinite_gradient", "error", max(lost.start, 1), (), "")
    with open_run(record(norms)) as run:
        made = snowball(raster(run), [found])
    assert made.profiles[made.shown].step == shown


def test_a_warning_is_shown_first_where_there_is_no_error(record):
    found = [
        Finding("loss_spike", "info", 250, (), ""),
        Finding("vanishing_gradient", "warning", 0, (), ""),
    ]
    with open_run(record(np.ones((300, 4)))) as run:
        both = [snowball(raster(run), some) for some in (found, found[:1])]
    assert [made.profiles[made.shown].step for made in both] == [0, 299]


def test_without_weights_there_is_none(record):
    with open_run(record([[1.0] * 4] * 5, tensors=tuple(TensorInfo(str(i), (3,)) for i in range(4)))) as run:
        assert snowball(raster(run)) is None


def test_scattered_norms_have_no_stretch_that_carries_them():
    rng = np.random.default_rng(0)
    noise = np.exp(rng.normal(0, 0.6, 5000))
    assert not profile(0, noise).telling
    assert profile(0, noise[:200] * 1.05 ** -np.arange(200)).telling


def test_many_weights_have_small_dots(record):
    tensors = tuple(TensorInfo(f"blocks.{i}.weight", (3, 3)) for i in range(400))
    with open_run(record(np.ones((5, 400)), tensors=tensors)) as run:
        (layout,) = snowball_sketch(snowball(raster(run))).draw(None)
    plot = layout.children[2]
    assert [one.glyph.size for one in plot.renderers if one.glyph.__class__.__name__ == "Scatter"] == [2]


def test_without_a_finite_number_nothing_is_said_of_growth(record):
    with open_run(record(np.full((9, 4), np.inf))) as run:
        assert snowball_words(snowball(raster(run))) == "No weight has a finite gradient at any chosen step."
