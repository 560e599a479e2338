from __future__ import annotations

import numpy as np
import pytest

from steadygrad.records import Finding, Look, Passage, Reading
from steadygrad.report.page import page, render
from steadygrad.report.page.data.health import MOST_POINTS, health, mean_overhead, spent
from steadygrad.report.page.data.passages import MOST_STEPS, passages
from steadygrad.report.page.data.words import health_words, overhead_words
from steadygrad.runfile import RunWriter, open_run
from steadygrad.runfile.own_numbers import OVERHEAD


def heard(step, dead=0.1, largest=2.0, layer="mlp.2"):
    return Look(step, 3, dead=dead, dead_in=layer, dead_mean=dead / 2, saturated=0.0, saturated_in="mlp.4",
                saturated_mean=0.0, largest=largest, largest_in="mlp.0")  # fmt: skip


def through(step, length=20, gain=0.5):
    norms = gain ** np.arange(length - 1, -1, -1.0)
    return Look(step, through_time=(Passage("rnn", length, tuple(norms), gain),))


@pytest.fixture
def run_with(tmp_path, record):
    def make(looks=(), shares=()):
        with open_run(record(np.ones((100, 4)))) as plain:
            info = plain.info
            with RunWriter(tmp_path / "more.steady", info) as writer:
                for step in range(100):
                    writer.append(_reading(step))
                for look in looks:
                    writer.look(look)
                for step, share in shares:
                    writer.scalar(step, OVERHEAD, share)
        return open_run(writer.path)

    return make


def _reading(step):
    return Reading(step, np.ones(4), 2.0, lr=0.1)


def test_the_curves_name_the_worst_layer(run_with):
    with run_with([heard(50, dead=0.9, layer="worst"), heard(3)]) as run:
        data = health(run)
    assert data.steps.tolist() == [3, 50]
    assert "90 % into worst at step 50" in health_words(data)
    assert "No saturated units." in health_words(data)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_activation_that_is_not_finite_is_told(run_with, bad):
    with run_with([heard(3), heard(7, largest=bad)]) as run:
        assert "Not finite at 1 look, first at step 7." in health_words(health(run))
        assert "Inside the model" in render(run)


def test_overhead_by_the_steps_each_share_stands_for(run_with):
    with run_with(shares=[(9, 0.5), (99, 0.0)]) as run:
        assert mean_overhead(run) == pytest.approx(0.05)
        assert "up to step 9" in overhead_words(spent(run), mean_overhead(run))


def test_many_shares_are_drawn_as_few_and_the_largest_stays(run_with):
    shares = np.full(5000, 0.01)
    shares[4321] = 0.7
    with run_with(shares=enumerate(shares.tolist())) as run:
        data = spent(run)
    assert len(data.steps) <= MOST_POINTS
    assert data.most.max() == pytest.approx(0.7)
    assert data.steps[-1] == 4999


def test_a_file_of_before_says_that_it_is_not_recorded(run_with):
    with run_with() as run:
        words, sections = page(run)
        assert dict(words["facts"])["spent in steadygrad"] == "not recorded"
        assert not {"health", "overhead", "through-time"} & {part.key for part in sections}


def test_the_gradient_through_time_has_a_slider_over_steps(run_with):
    found = Finding("vanishing_in_time", "warning", 40, ("rnn",), "")
    with run_with([through(4, gain=0.9), through(40), through(90, length=7)]) as run:
        part = next(part for part in page(run, [found])[1] if part.key == "through-time")
    slider, note, plot = part.models[0].children
    assert (slider.value, slider.end, slider.title) == (1, 2, "step 40, choose another")
    assert "by 0.5 in rnn" in note.text
    assert (plot.x_range.start, plot.x_range.end) == (-0.5, 19.5)
    assert part.words == note.text


def test_as_many_steps_as_a_slider_can_tell_apart_and_those_of_findings():
    looks = [through(step) for step in range(0, 4000, 2)]
    found = [Finding("exploding_in_time", "error", 1234, ("rnn",), "")]
    made = passages(looks, found)
    assert len(made.looks) <= MOST_STEPS
    assert made.looks[made.shown].step == 1234
    assert (made.looks[0].step, made.looks[-1].step) == (0, 3998)


def test_a_finding_of_an_earlier_version_is_drawn_as_it_was_fitted(run_with):
    evidence = {"gain per time step": 2.0, "time steps": 30.0, "horizon": 30.0}
    found = Finding("exploding_in_time", "error", 4, ("rnn",), "It grows.", evidence)
    with run_with() as run:
        part = next(part for part in page(run, [found])[1] if part.key == "through-time")
    assert part.words == "It grows."


def test_hostile_names_of_layers(run_with):
    evil = "</script><img src=x onerror=alert(1)>"
    passage = Passage(evil, 2, (0.5, 1.0), 0.5)
    look = Look(3, 1, dead=0.5, dead_in=evil, saturated=0.2, saturated_in=evil, largest=1.0, largest_in=evil,
                through_time=(passage,))  # fmt: skip
    with run_with([look]) as run:
        text = render(run)
    assert "</script><img" not in text
    assert "&lt;/script&gt;&lt;img" in text
