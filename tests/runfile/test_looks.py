from __future__ import annotations

import math
import sqlite3

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadygrad.records import Finding, Incident, Look, Passage, Reading
from steadygrad.runfile import RunWriter, open_run
from steadygrad.runfile.facts import look_text, read_look
from steadygrad.runfile.own_numbers import DEAD, LARGEST, SATURATED

ANY = st.floats(allow_nan=True, width=64)


def reading(step):
    return Reading(step, np.ones(4), 2.0)


def write(tmp_path, info, looks, **options):
    with RunWriter(tmp_path / "a.steady", info(), **options) as writer:
        for step in range(20):
            writer.append(reading(step))
        for look in looks:
            writer.look(look)
    assert writer.fault is None
    return open_run(writer.path)


@settings(deadline=None)
@given(st.text(), ANY, ANY, ANY, st.lists(st.floats(0, 1, width=32), max_size=64))
def test_whatever_was_heard_comes_back(name, dead, saturated, largest, norms):
    passage = Passage(name, 99, tuple(norms), 0.5)
    look = Look(7, 2, dead=dead, dead_in=name, saturated=saturated, largest=largest, through_time=(passage,))
    back = read_look(look_text(look))
    assert (back.dead_in, back.through_time[0].module) == (name, name)
    for one in ("dead", "saturated", "largest", "dead_mean"):
        assert np.array_equal(getattr(back, one), getattr(look, one), equal_nan=True)
    assert back.through_time[0].norms == pytest.approx(tuple(norms), rel=1e-2, abs=1e-300)


def test_looks_are_scalars_for_whoever_exports(tmp_path, info):
    looks = [Look(3, 2, dead=0.25, saturated=0.5, largest=math.inf), Look(9)]
    with write(tmp_path, info, looks) as run:
        assert run.looks == tuple(looks) or len(run.looks) == 2
        assert [each.tolist() for each in run.scalars(DEAD)] == [[3], [0.25]]
        assert run.scalars(SATURATED)[1].tolist() == [0.5]
        assert run.scalars(LARGEST)[1].tolist() == [math.inf]
        assert run.scalar_on_rows(DEAD)[3] == 0.25


def test_a_file_of_before_has_none(tmp_path, info):
    with write(tmp_path, info, ()) as run:
        assert run.looks == ()
        assert run.scalar_names == ()


def test_a_refreshed_run_has_the_new_ones(tmp_path, info):
    with RunWriter(tmp_path / "a.steady", info()) as writer:
        writer.append(reading(0))
        writer.flush()
        run = open_run(writer.path)
        assert run.looks == ()
        writer.look(Look(0, 1, dead=0.1))
        writer.flush()
        assert [one.dead for one in run.refresh().looks] == [0.1]
        assert run.scalars(DEAD)[1].tolist() == [0.1]


def test_looks_make_room_for_what_happened(tmp_path, info):
    """Under a small cap the looks go first; findings and the first incidents stay."""
    with RunWriter(tmp_path / "a.steady", info(), size_cap_bytes=2**19) as writer:
        writer.append(reading(0))
        writer.look(Look(0, 1, dead_in="x" * 80_000))
        writer.finding(Finding("loss_spike", "error", 0, (), "told"))
        writer.incident(Incident(0, "skip", "why"))
        writer.flush()
    assert writer.fault is None
    with open_run(writer.path) as run:
        assert (len(run.findings), len(run.incidents), run.dropped_events) == (1, 1, 0)
        assert run.looks == ()
    assert sqlite3.connect(writer.path).execute("SELECT count(*) FROM event").fetchone() == (2,)
