from __future__ import annotations

import pytest

from steadygrad.containment import Containment
from steadygrad.errors import NonfiniteStreak


def failing(error):
    def call(*args):
        raise error

    return call


@pytest.fixture
def contained():
    told = []
    containment = Containment(told.append)
    containment.told = told
    return containment


def test_a_result_passes_through(contained):
    assert contained.run("part", lambda a, b: a + b, 1, 2) == 3


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), AssertionError("x"), MemoryError("x")])
def test_a_fault_is_told_once_and_switches_its_part_off(contained, error):
    assert contained.run("part", failing(error)) is None
    assert contained.run("part", lambda: 1) is None
    assert contained.run("part", failing(error)) is None
    (line,) = contained.told
    assert line.startswith(f"a fault in steadygrad's own part ({type(error).__name__}: x)")
    assert "\n" not in line


def test_other_parts_go_on(contained):
    contained.run("part", failing(ValueError()))
    assert contained.run("other", lambda: 1) == 1


@pytest.mark.parametrize("error", [NonfiniteStreak("stop"), KeyboardInterrupt(), SystemExit(1)])
def test_what_is_meant_to_end_the_run_passes(contained, error):
    with pytest.raises(type(error)):
        contained.run("part", failing(error))
    assert contained.run("part", lambda: 1) == 1
    assert contained.told == []


def test_a_listener_that_fails_itself_lets_nothing_out():
    containment = Containment(failing(BrokenPipeError()))
    assert containment.run("part", failing(ValueError())) is None
    assert "part" in containment.off
