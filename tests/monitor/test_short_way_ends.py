"""What waits on the short way is told once, in order, however the training ends and whoever else has a hand in it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.monitor.outcomes import of_run
from tests.monitor.workloads import OPTIMIZERS, batches, mlp, seeded, step

import steadygrad as sg
from steadygrad.stepping import at_exit

ROOT = Path(__file__).parents[2]
# A spike in a run that is watched is a plain step, and what is found of it is told late.
SCRIPT = """
import sys, torch, steadygrad as sg
from tests.monitor.workloads import OPTIMIZERS, batches, mlp, seeded, step
model = seeded(mlp)
optimizer = OPTIMIZERS["Adam"](model.parameters())
monitor = sg.watch(model, optimizer, run=sys.argv[1])
for i, (x, y) in enumerate(batches(101)):
    step(model, optimizer, (x, y * 1e5 if i == 99 else y))
{end}
"""


@pytest.mark.parametrize(
    "end", ["", "raise SystemExit(3)", "del model, optimizer, monitor; import gc; gc.collect()"]
)
def test_a_script_that_just_ends_loses_nothing(end, tmp_path):
    path = tmp_path / "a.steady"
    subprocess.run(
        [sys.executable, "-c", SCRIPT.format(end=end), path], cwd=ROOT, capture_output=True, check=False
    )
    run = of_run(path)
    assert "exploding_gradient" in [kind for kind, *_ in run["findings"]]
    assert np.frombuffer(run["steps"][2], np.int64).tolist() == list(range(101))


def test_at_exit_nothing_is_left_with_whoever_was_asked_first():
    """The alive are asked in no order, and one tells another."""

    class Last:
        waits = told = 0

        def settle(self):
            self.told, self.waits = self.told + self.waits, 0

    class First:
        def settle(self):
            for one in lasts:
                one.waits += not one.told

    lasts, first = [Last() for _ in range(20)], First()
    for one in (*lasts[:10], first, *lasts[10:]):
        at_exit.settled_at_exit(one)
    at_exit._settle_all()
    assert [one.told for one in lasts] == [1] * 20


class Told:
    """A listener's notes."""

    def __init__(self, monitor):
        self.steps, self.monitor = [], monitor
        self.asks = lambda: None
        monitor._logbook.listeners.append(("notes", self))

    def __call__(self, reading):
        self.steps.append(reading.step)
        self.asks()


def started(count=60):
    model = seeded(mlp)
    optimizer = OPTIMIZERS["Adam"](model.parameters())
    guard = sg.guard(model, optimizer, recover=False)
    told = Told(guard)
    for batch in batches(count):
        step(model, optimizer, batch)
    return model, optimizer, guard, told


def test_who_is_told_may_ask_and_log_and_hears_of_no_later_step():
    model, optimizer, guard, told = started(40)
    seen = []

    def asks():
        guard.log(seen=1.0)
        seen.append((guard.last.step, len(guard.recent), guard.counts.steps))

    told.asks = asks
    for batch in batches(40):
        step(model, optimizer, batch)
    told.asks = lambda: None
    assert guard.last.step == 79
    assert told.steps == list(range(80))
    assert seen == [(at, at + 1, at + 1) for at in range(80 - len(seen), 80)]


def test_a_fork_tells_in_the_parent_alone():
    _, _, guard, told = started(38)
    assert told.steps[-1] < 37
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        before = len(told.steps)
        at_exit._settle_all()
        os.write(writer, bytes([before, len(told.steps)]))
        os._exit(0)
    os.waitpid(child, 0)
    assert list(os.read(reader, 2)) == [38, 38]
    assert told.steps == list(range(38))
    assert guard.counts.steps == 38


def test_who_asks_from_another_thread_changes_no_order():
    model, optimizer, guard, told = started(32)
    # Whoever is told takes its time, and the training goes on meanwhile.
    told.asks = partial(time.sleep, 1e-3)
    ended = threading.Event()

    def ask():
        while not ended.wait(1e-3):
            guard.counts  # noqa: B018 - asking is the point

    thread = threading.Thread(target=ask)
    thread.start()
    for batch in batches(200):
        step(model, optimizer, batch)
    ended.set()
    thread.join()
    guard.close()
    assert told.steps == list(range(232))
    window = guard.policy.state_dict()["footing"]["window"]["log_norms"]
    np.testing.assert_allclose(np.exp(window), [one.total_norm for one in guard.recent][-len(window) :])


def test_what_is_collected_between_two_steps_is_told():
    model, optimizer, guard, told = started(38)
    steps = told.steps
    del model, optimizer, guard, told
    gc.collect()
    assert steps == list(range(38))
