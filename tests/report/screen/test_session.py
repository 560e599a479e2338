from __future__ import annotations

from types import SimpleNamespace

import pytest

from steadygrad.report.screen import session


class Watching:
    """A terminal on a clock of its own: a look every 0.2 s, for ten seconds."""

    def __init__(self, changes=(), keys=(), sizes=None):
        self.now_s, self.drawn = 0.0, []
        self._changes, self._keys, self._sizes = list(changes), dict(keys), dict(sizes or {})
        self.console = SimpleNamespace(size=(80, 24))

    def look(self):
        due = [at for at in self._changes if at <= self.now_s]
        self._changes = [at for at in self._changes if at > self.now_s]
        return bool(due)

    def press(self, key):
        pass

    def refresh(self):
        self.drawn.append(round(self.now_s, 1))

    def wait(self, seconds):
        self.now_s += seconds
        self.console.size = self._sizes.get(round(self.now_s, 1), self.console.size)
        return ["q"] if self.now_s >= 10.0 else self._keys.pop(round(self.now_s, 1), [])


@pytest.fixture
def watch(monkeypatch):
    def run(**more):
        one = Watching(**more)
        monkeypatch.setattr(session.time, "monotonic", lambda: one.now_s)
        monkeypatch.setattr(session.time, "time", lambda: one.now_s)
        assert session._loop(one, one, one, SimpleNamespace(asked=False))
        return one.drawn

    return run


def test_a_run_that_writes_each_second_is_drawn_once_a_second(watch):
    assert len(watch(changes=[0.5 + at for at in range(10)])) <= 12


def test_ages_move_on_while_nothing_is_written(watch):
    assert 9 <= len(watch()) <= 11


def test_news_keys_and_another_size_are_drawn_at_the_next_look(watch):
    assert 3.4 in watch(changes=[3.3])
    assert 3.4 in watch(keys=[(3.4, ["down"])])
    assert 3.4 in watch(sizes={3.4: (60, 20)})
