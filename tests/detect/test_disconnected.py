from __future__ import annotations

import numpy as np
import pytest

from steadygrad.detect import Context, Panel, over
from steadygrad.records import Reading, TensorInfo


def absent(*flags):
    return np.array(flags, dtype=bool)


def test_the_first_step_without_any_gradient_is_an_error(stream):
    context = Context((TensorInfo("weight", (1, 10)), TensorInfo("bias", (1,))))
    (finding,) = over(stream(np.zeros((1, 2)), absent=absent(True, True)), context)
    assert (finding.kind, finding.severity, finding.step) == ("disconnected_loss", "error", 0)
    assert finding.where == ("weight", "bias")
    assert "weight, bias" in finding.summary
    assert "did nothing" in finding.summary


def test_only_trainable_parameters_are_named(stream):
    context = Context((TensorInfo("frozen", (2,), trainable=False), TensorInfo("free", (2,))))
    (finding,) = over(stream(np.zeros((1, 2)), absent=absent(True, True)), context)
    assert finding.where == ("free",)


def test_one_gradient_is_enough(stream, context):
    assert not over(stream(np.ones((1, 2)), absent=absent(True, False)), context(2))
    assert not over(stream(np.ones((1, 2))), context(2))


def test_a_later_step_without_gradients_is_no_disconnected_loss(stream, context):
    masks = [absent(False, False), absent(True, True), absent(False, False)]
    assert not over(stream(np.ones((3, 2)), absent=masks), context(2))


def test_parameters_without_gradient_are_named_after_sixteen_steps(stream, context):
    panel = Panel(context(3))
    readings = stream(np.ones((16, 3)), absent=absent(False, True, False))
    for reading in readings[:-1]:
        assert not panel.observe(reading)
    (finding,) = panel.observe(readings[-1])
    assert (finding.kind, finding.severity, finding.step) == ("disconnected_parameters", "warning", 0)
    assert finding.where == ("layer1.weight",)


@pytest.mark.parametrize("fed_at", [0, 7, 15])
def test_one_gradient_in_sixteen_steps_settles_it(stream, context, fed_at):
    masks = [absent(False, step != fed_at) for step in range(40)]
    assert not over(stream(np.ones((40, 2)), absent=masks), context(2))


def test_frozen_parameters_are_not_blamed(stream):
    context = Context((TensorInfo("body", (2, 2), trainable=False), TensorInfo("head", (2, 2))))
    assert not over(stream(np.ones((40, 2)), absent=absent(True, False)), context)


def test_a_loss_that_is_cut_off_later_is_found_after_eight_steps_and_told_once(stream, context):
    panel = Panel(context(2))
    for reading in stream(np.ones((5, 2))):
        assert not panel.observe(reading)
    cut = [Reading(step, np.zeros(2), 0.0, absent=absent(True, True)) for step in range(5, 45)]
    found = [(reading.step, finding) for reading in cut for finding in panel.observe(reading)]
    ((at, finding),) = found
    assert (at, finding.kind, finding.severity, finding.step) == (12, "disconnected_loss", "error", 5)
    assert finding.where == ("layer0.weight", "layer1.weight")
    assert "in 8 steps in a row" in finding.summary
    assert finding.evidence["steps"] == 8


def test_seven_steps_without_a_gradient_in_a_row_are_no_disconnected_loss(stream, context):
    masks = ([absent(False, False)] + [absent(True, True)] * 7) * 20
    assert not over(stream(np.ones((160, 2)), absent=masks), context(2))


def test_one_that_was_cut_off_at_the_start_is_not_told_again_while_it_lasts(stream, context):
    found = over(stream(np.zeros((40, 2)), absent=absent(True, True)), context(2))
    assert [(finding.kind, finding.step) for finding in found] == [("disconnected_loss", 0)]


def test_steps_where_nothing_had_a_gradient_do_not_count(stream, context):
    masks = [absent(False, True), *([absent(True, True)] * 5 + [absent(False, True)]) * 15]
    (finding,) = over(stream(np.ones((91, 2)), absent=masks), context(2))
    assert (finding.kind, finding.step) == ("disconnected_parameters", 0)
    assert not over(stream(np.ones((90, 2)), absent=masks[:90]), context(2))


def test_parameters_that_join_are_watched_from_there(context):
    panel = Panel(context(2))
    for step in range(20):
        assert not panel.observe(Reading(step, np.ones(2), 1.4))
    panel.extend([TensorInfo("late", (2,))])
    mask = absent(False, False, True)
    found = [f for s in range(20, 60) for f in panel.observe(Reading(s, np.ones(3), 1.7, absent=mask))]
    assert [(f.kind, f.where, f.step) for f in found] == [("disconnected_parameters", ("late",), 20)]


def test_experts_that_are_seldom_chosen_are_waited_for(stream):
    experts = (TensorInfo(f"experts.{i}.weight", (8, 8)) for i in range(4))
    tensors = (*experts, TensorInfo("head", (8, 8)))
    absent = np.array([False, False, False, True, False])

    def told(steps, tensors=tensors):
        readings = stream(np.where(absent, 0.0, 1.0) * np.ones((steps, 5)), absent=absent)
        return [(f.kind, f.severity) for f in over(readings, Context(tensors))]

    assert not told(63)
    # Nothing is cut off, nobody asks it.
    assert told(64) == [("disconnected_parameters", "info")]
    plain = (*tensors[:3], TensorInfo("unused.weight", (8, 8)), tensors[4])
    assert told(16, plain) == [("disconnected_parameters", "warning")]


def test_gradients_that_come_and_go_are_waited_for(stream, context):
    rows = [np.array([False, step % 2 == 0, True]) for step in range(80)]
    readings = stream(np.ones((80, 3)), absent=rows)
    assert not over(readings[:63], context(3))
    assert [f.where for f in over(readings, context(3))] == [("layer2.weight",)]
