"""What it costs a training to be looked at, and how late a viewer sees a step.

One training goes on all the time while its viewers (a page in a headless browser, and the terminal view in a pseudo
terminal) are let run and held in turn, so both kinds of window see the same machine. Steps are counted from the
run file afterwards. The training has a core of its own (as many as its threads), viewers and browser have the others:
a browser is most often another machine's. With ``--shared`` they compete. A step is late by the time from its end until a viewer's screen shows it, or a newer one.

    python -m benchmarks.live
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.results import machine, write_section
from steadygrad.errors import RunFileError
from steadygrad.runfile import Run, open_run

TRAINING = """
import sys, torch, steadygrad
from torch import nn
torch.set_num_threads(int(sys.argv[2]))
model = nn.Sequential(*[part for _ in range(8) for part in (nn.Linear(256, 256), nn.ReLU())], nn.Linear(256, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
guard = steadygrad.guard(model, optimizer, run=sys.argv[1])
while True:
    inputs = torch.randn(128, 256)
    loss = (model(inputs) - inputs.sum(1, keepdim=True).sin()).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step(); guard.log(loss=loss)
"""
SHOWN = re.compile(rb"step \x1b\[[0-9;]*m(?:\x1b\[[0-9;]*m)*([0-9,]+)")
WATCH = """
window.seen = []
setInterval(() => {
  const text = document.getElementById("live-step")?.textContent
  if (text !== undefined && text !== window.last) { window.last = text; window.seen.push([text, Date.now() / 1000]) }
}, 20)"""
Spent = np.ndarray[Any, Any]
"""Seconds of a core, of one process or of several."""
PYTHON = (sys.executable, "-m", "steadygrad", "live")


class TerminalView:
    """The terminal view, and when it showed which step."""

    def __init__(self, path: Path) -> None:
        self.seen: list[tuple[int, float]] = []
        self._mine, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color"}
        command = [*PYTHON, "--terminal", str(path)]
        self.process = subprocess.Popen(
            command, stdin=its, stdout=its, env=environment, start_new_session=True
        )
        os.close(its)
        threading.Thread(target=self._read, daemon=True).start()

    def cpu_s(self) -> Spent:
        """What it took of a core so far."""
        return np.array([_cpu_s(self.process.pid)])

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._mine, 65536)
            except OSError:
                return
            for found in SHOWN.findall(data):
                self.seen.append((int(found.replace(b",", b"")), time.time()))


class PageView:
    """The page in a browser, and when it showed which step."""

    def __init__(self, path: Path, things: ExitStack) -> None:
        from selenium import webdriver  # noqa: PLC0415 - without a browser the rest is measured all the same

        self.process = subprocess.Popen(
            [*PYTHON, str(path), "--port", "0"], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stderr is not None
        address = self.process.stderr.readline().partition(" at ")[2].split()[0]
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        profile = things.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        for flag in ("headless", "no-sandbox", "disable-gpu", "no-first-run", f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        driver = Path(profile) / "driver"
        # The browser stands for one on another machine: it gets what nobody else wants.
        driver.write_text('#!/bin/sh\nexec setsid nice -n 19 /usr/bin/chromedriver "$@"\n')
        driver.chmod(0o755)
        service = webdriver.ChromeService(str(driver))
        self.driver = webdriver.Chrome(service=service, options=options)
        self._session: int = service.process.pid
        things.callback(self.driver.quit)
        self.driver.get(address)
        self.driver.execute_script(WATCH)

    def cpu_s(self) -> Spent:
        """What server and browser took of a core so far."""
        browser = [fields for path in Path("/proc").glob("[0-9]*/stat") if (fields := _fields(path))]
        ours = [fields for fields in browser if int(fields[3]) == self._session]
        return np.array([_cpu_s(self.process.pid), sum(map(_seconds, ours))])

    @property
    def seen(self) -> list[tuple[int, float]]:
        """Steps and when they were shown."""
        raw: list[Any] = self.driver.execute_script("return window.seen ?? []")
        return [(int(text.replace(",", "")), when) for text, when in raw]


def measure(pairs: int, window_s: float, threads: int, *, shared: bool) -> str:
    """Let a training run, look at it and away in turn; gives the table."""
    cores = sorted(os.sched_getaffinity(0))
    apart = not shared and len(cores) > threads
    with ExitStack() as things:
        path = Path(things.enter_context(tempfile.TemporaryDirectory())) / "live.steady"
        environment = {**os.environ, "STEADYGRAD_QUIET": "1"}
        if apart:
            os.sched_setaffinity(0, cores[:threads])
        training = subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(path), str(threads)], env=environment
        )
        if apart:
            os.sched_setaffinity(0, cores[threads:])
        things.callback(training.kill)
        _wait_for(path)
        views: dict[str, TerminalView | PageView] = {"terminal": TerminalView(path)}
        if shutil.which("chromium") and shutil.which("chromedriver"):
            views["page"] = PageView(path, things)
        for view in views.values():
            things.callback(view.process.kill)
        time.sleep(8)
        late = _latencies(views, 4 * window_s, path)
        before = {name: view.cpu_s() for name, view in views.items()}
        windows = _windows(training.pid, [view.process.pid for view in views.values()], pairs, window_s)
        looked_s = sum(one.end - one.start for one in windows if one.looked_at)
        spent = {name: (view.cpu_s() - before[name]) / looked_s for name, view in views.items()}
        training.terminate()
        training.wait()
        return _tell(open_run(path), windows, late, spent)


def _wait_for(path: Path) -> None:
    while True:
        with suppress(RunFileError):  # not there yet, or empty as yet
            if open_run(path).step_count >= 64:
                return
        time.sleep(0.5)


def _latencies(views: dict[str, Any], seconds: float, path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """How long the oldest step of each change of the screen had waited."""
    begun = time.time()
    time.sleep(seconds)
    run = open_run(path)
    ended = run.info.started + run.time_s
    found = {}
    for name, view in views.items():
        shown = [(step, when) for step, when in view.seen if when >= begun]
        waits = [
            when - ended[before + 1]
            for (before, _), (step, when) in pairwise(shown)
            if step > before and before + 1 < len(ended)
        ]
        found[name] = np.array(waits)
    return found


class Window(NamedTuple):
    """A while in which the viewers ran, or were held; `cpu_s` is what the training took of a core."""

    looked_at: bool
    start: float
    end: float
    cpu_s: float


def _windows(training: int, viewers: list[int], pairs: int, window_s: float) -> list[Window]:
    """Let the viewers run and hold them in turn; which goes first is drawn."""
    order = random.Random(0)
    found = []
    for _ in range(pairs):
        for looked_at in order.sample([True, False], 2):
            for viewer in viewers:
                os.kill(viewer, signal.SIGCONT if looked_at else signal.SIGSTOP)
            time.sleep(0.5)
            start, before = time.time(), _cpu_s(training)
            time.sleep(window_s)
            found.append(Window(looked_at, start, time.time(), _cpu_s(training) - before))
    for viewer in viewers:
        os.kill(viewer, signal.SIGCONT)
    return found


def _cpu_s(process: int) -> float:
    return _seconds(_fields(Path(f"/proc/{process}/stat")))


def _fields(path: Path) -> list[str]:
    """What ``stat`` says of a process behind its name; nothing of one that is gone."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _seconds(fields: list[str]) -> float:
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _tell(
    run: Run, windows: list[Window], late: dict[str, np.ndarray[Any, Any]], spent: dict[str, Spent]
) -> str:
    ended = run.info.started + run.time_s
    steps = [((ended >= one.start) & (ended < one.end)).sum() for one in windows]
    speed = [count / (one.end - one.start) for count, one in zip(steps, windows, strict=True)]
    work = [1e3 * one.cpu_s / count for count, one in zip(steps, windows, strict=True)]
    lines = [
        "| training | looked at | alone | difference (95 %) |",
        "| --- | ---: | ---: | ---: |",
        _compared("steps/s", speed, windows),
        _compared("ms of a core a step", work, windows),
        "",
        "| viewer | a step is shown after, median s | at most, s | takes of a core (page: server + browser) |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, waits in late.items():
        shares = " + ".join(f"{100 * share:.0f} %" for share in spent[name])
        lines.append(f"| {name} | {np.median(waits):.2f} | {waits.max():.2f} | {shares} |")
    return "\n".join(lines)


def _compared(name: str, values: list[float], windows: list[Window]) -> str:
    """One row: medians, and the median of what each pair differs by."""
    of = {
        kind: np.array([v for v, one in zip(values, windows, strict=True) if one.looked_at is kind])
        for kind in (True, False)
    }
    ratios = of[True] / of[False] - 1
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = 100 * np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    medians = f"{np.median(of[True]):.2f} | {np.median(of[False]):.2f}"
    return f"| {name} | {medians} | {100 * np.median(ratios):+.1f} % ({low:+.1f} to {high:+.1f}) |"


def main() -> None:
    """Measure and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=24, help="pairs of windows")
    parser.add_argument("--window-s", type=float, default=4.0, help="length of a window")
    parser.add_argument("--threads", type=int, default=1, help="threads of the training")
    parser.add_argument("--shared", action="store_true", help="training and viewers share all cores")
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    chosen = parser.parse_args()
    text = measure(chosen.pairs, chosen.window_s, chosen.threads, shared=chosen.shared)
    print(text)
    if not chosen.dry:
        write_section("live", f"{machine(chosen.threads)}\n\n{text}")


if __name__ == "__main__":
    main()
