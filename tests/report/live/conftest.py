"""A real server on a free port, and a real browser; without one the browser's tests are skipped, with the reason."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from steadygrad.records import Look, Passage, Reading, RunInfo, TensorInfo
from steadygrad.runfile import RunWriter
from steadygrad.runfile.own_numbers import OVERHEAD

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not (shutil.which(CHROMIUM) and shutil.which(DRIVER)):
        pytest.skip(f"no {CHROMIUM} with {DRIVER}")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}", "window-size=1200,1000"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(service=selenium.ChromeService(DRIVER), options=options)
    yield driver
    driver.quit()


@pytest.fixture
def served():
    """Serve a place in a process of its own; gives its port."""
    started = []

    def serve(place):
        command = [sys.executable, "-m", "steadygrad", "live", str(place), "--port", "0"]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        line = started[-1].stderr.readline()
        return int(line.partition("127.0.0.1:")[2].partition("/")[0])

    yield serve
    for process in started:
        process.terminate()
        process.communicate()


@pytest.fixture
def ask():
    """One request with headers of one's own; gives status and body."""

    def request(port, path="/", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        connection.close()
        return answer.status, body

    return request


class Growing:
    """A run with numbers for every picture, written step by step."""

    def __init__(self, path):
        tensors = tuple(TensorInfo(f"layers.{i // 2}.{'ab'[i % 2]}", (4, 4)) for i in range(6))
        self.writer = RunWriter(
            path, RunInfo(path.stem, started=time.time(), tensors=tensors, optimizers=("SGD",)), flush_s=0.1
        )
        self.step = 0

    def write(self, count):
        for _ in range(count):
            norms = (1.0 + self.step / 100) * np.arange(1.0, 7.0)
            more = {"param_norms": np.ones(6), "update_norms": norms / 1e3} if self.step % 10 == 0 else {}
            self.writer.append(
                Reading(
                    self.step, norms, float(np.linalg.norm(norms)), lr=0.1, cap=50.0, loss=2.0,
                    skipped=self.step % 50 == 7, time_s=0.1 * self.step, **more,
                )
            )  # fmt: skip
            if self.step % 20 == 0:
                passage = Passage("rnn", 4, (0.1, 0.2, 0.4, 1.0 + self.step), 0.5)
                self.writer.look(
                    Look(self.step, 1, dead=0.2, dead_in="layers.1", saturated=0.1, saturated_in="layers.2",
                         largest=2.0 + self.step / 1e3, largest_in="layers.3", through_time=(passage,))
                )  # fmt: skip
                self.writer.scalar(self.step, OVERHEAD, 0.01)
            self.step += 1
        assert self.writer.flush()


@pytest.fixture
def growing(tmp_path):
    """Begin a run that has numbers for every picture."""
    begun = []

    def begin(name="growing"):
        begun.append(Growing(tmp_path / f"{name}.steady"))
        return begun[-1]

    yield begin
    for run in begun:
        run.writer.close()


@pytest.fixture
def full_run(growing, tmp_path):
    """Write a run of so many steps that has numbers for every picture."""

    def write(steps, name):
        run = growing(name)
        run.write(steps)
        run.writer.close()
        return tmp_path / f"{name}.steady"

    return write
