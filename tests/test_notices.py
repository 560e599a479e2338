from __future__ import annotations

import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.notices import INTERVAL_S, Notices


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def notices(clock):
    return Notices(clock=clock)


def test_first_of_a_kind_is_said_at_once(notices, capsys):
    notices.say("skip", "step 412 skipped")
    captured = capsys.readouterr()
    assert captured.err == "steadygrad: step 412 skipped\n"
    assert captured.out == ""


def test_repeats_wait_and_are_counted(notices, clock, capsys):
    for step in range(13):
        notices.say("skip", f"step {step} skipped")
    clock.now_s = INTERVAL_S
    notices.say("skip", "step 99 skipped")
    assert capsys.readouterr().err.splitlines() == [
        "steadygrad: step 0 skipped",
        "steadygrad: step 99 skipped (and 12 more)",
    ]


def test_kinds_dont_hold_each_other_back(notices, capsys):
    notices.say("skip", "one")
    notices.say("engage", "two")
    assert capsys.readouterr().err == "steadygrad: one\nsteadygrad: two\n"


def test_flush_tells_the_newest_of_what_was_held_once(notices, capsys):
    for step in range(3):
        notices.say("skip", f"step {step} skipped")
    notices.flush()
    notices.flush()
    assert capsys.readouterr().err.splitlines()[1:] == ["steadygrad: step 2 skipped (and 1 more)"]


def test_flush_starts_the_interval_again(notices, clock, capsys):
    notices.say("skip", "a")
    notices.say("skip", "b")
    notices.flush()
    clock.now_s = INTERVAL_S - 1
    notices.say("skip", "c")
    assert capsys.readouterr().err == "steadygrad: a\nsteadygrad: b\n"


def test_a_notice_is_one_line(notices, capsys):
    notices.say("odd", "a\nname\r\nwith\tbreaks")
    assert capsys.readouterr().err == "steadygrad: a name with breaks\n"


@pytest.mark.parametrize(
    ("name", "value", "lines"),
    [
        ("STEADYGRAD_QUIET", "1", 0),
        ("STEADYGRAD_QUIET", "0", 1),
        ("STEADYGRAD_QUIET", "", 1),
        ("RANK", "3", 0),
        ("RANK", "0", 1),
    ],
)
def test_quiet_switch_and_rank(notices, capsys, monkeypatch, name, value, lines):
    monkeypatch.setenv(name, value)
    notices.say("skip", "text")
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_stderr_is_looked_up_when_speaking(notices, monkeypatch, tmp_path):
    with (tmp_path / "err").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        notices.say("skip", "text")
    assert (tmp_path / "err").read_text() == "steadygrad: text\n"


def test_a_closed_or_missing_stderr_is_survived(notices, monkeypatch, tmp_path):
    stream = (tmp_path / "err").open("w")
    stream.close()
    for gone in (stream, None):
        monkeypatch.setattr(sys, "stderr", gone)
        notices.say(str(gone), "text")
        notices.flush()


def test_text_that_stderr_cant_encode_is_survived(notices, monkeypatch, tmp_path):
    with (tmp_path / "err").open("w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        notices.say("skip", "‖Δθ‖")
        notices.say("other", "plain")
    assert "steadygrad: plain\n" in (tmp_path / "err").read_text()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 40)), max_size=60))
def test_nothing_is_lost_and_no_kind_is_said_too_often(calls):
    clock, shown = Clock(), []
    notices = Notices(clock=clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steadygrad.notices._write", lambda text, more: shown.append((clock(), text, more)))
        for key, wait_s in calls:
            clock.now_s += wait_s
            notices.say(key, key)
        before_flush = list(shown)
        notices.flush()
    for key in "ab":
        times = [at for at, text, _ in before_flush if text == key]
        assert all(later - sooner >= INTERVAL_S for sooner, later in pairwise(times))
        assert sum(1 + more for _, text, more in shown if text == key) == [k for k, _ in calls].count(key)
