from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import urllib.request

import pyte
import pytest

WRITER = """
import sys, time
import numpy as np
from steadygrad.records import Finding, Reading, RunInfo, TensorInfo
from steadygrad.runfile import RunWriter
info = RunInfo("growing", "guard", "auto()", time.time(), "Net", ("SGD",), (TensorInfo("body.weight"), TensorInfo("head.bias")))
with RunWriter(sys.argv[1], info, flush_s=0.1) as writer:
    for step in range(100_000):
        norms = np.array([1.0 + step, 2.0])
        writer.append(Reading(step, norms, float(np.hypot(*norms)), loss=3.0 / (1 + step), time_s=0.02 * step))
        if step == 20:
            writer.finding(Finding("loss_spike", "warning", 20, ("body.weight",), "the loss went up"))
        time.sleep(0.02)
"""


class Terminal:
    """`steadygrad live` in a pseudo terminal, and what a person would see there."""

    def __init__(self, arguments, lines=30, columns=100, shell=(), **environment):
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.mine, its = pty.openpty()
        self.resize(lines, columns)
        self.before = termios.tcgetattr(its)
        self.its = its
        plain = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        self.process = subprocess.Popen(
            [
                *((sys.executable, *shell) if shell else ()),
                sys.executable,
                "-m",
                "steadygrad",
                "live",
                "--terminal",
                *map(str, arguments),
            ],
            stdin=its,
            stdout=its,
            stderr=its,
            env={**plain, "TERM": "xterm-256color", **environment},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(its, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )

    def resize(self, lines, columns):
        fcntl.ioctl(self.mine, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def read(self, seconds):
        if select.select([self.mine], [], [], seconds)[0]:
            try:
                data = os.read(self.mine, 65536)
            except OSError:
                return
            self.raw += data
            self.stream.feed(data)

    @property
    def text(self):
        return "\n".join(self.screen.display)

    def wait_for(self, seen, patience_s=30.0):
        end = time.monotonic() + patience_s
        while not seen(self.text):
            assert time.monotonic() < end, f"never seen; the screen shows:\n{self.text}"
            self.read(0.1)
        return self.text

    def press(self, keys):
        os.write(self.mine, keys)

    def ended(self, patience_s=30.0):
        end = time.monotonic() + patience_s
        while self.process.poll() is None:
            assert time.monotonic() < end, f"still there:\n{self.text}"
            self.read(0.1)
        self.read(0.1)
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for descriptor in (self.mine, self.its):
            os.close(descriptor)


@pytest.fixture
def terminal():
    opened = []

    def open_terminal(*arguments, **options):
        opened.append(Terminal(arguments, **options))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


@pytest.fixture
def training(tmp_path):
    """A process that writes a run; waits until its file is there."""
    started = []

    def train(name="growing.steady"):
        path = tmp_path / name
        started.append(subprocess.Popen([sys.executable, "-c", WRITER, str(path)]))
        return path

    yield train
    for process in started:
        process.kill()
        process.wait()


def shown_step(text):
    found = re.search(r"   step ([\d,]+)", text)
    return int(found.group(1).replace(",", "")) if found else -1


def test_a_run_is_followed_from_before_it_is_there(terminal, training, tmp_path):
    view = terminal(tmp_path / "growing.steady")
    view.wait_for(lambda text: "Waiting for" in text)
    training()
    first = view.wait_for(lambda text: "recording, newest step" in text and "worst tensors" in text)
    assert "growing  guard, policy auto(), Net, SGD" in first
    seen = shown_step(first)
    view.wait_for(lambda text: shown_step(text) > seen + 20)
    text = view.wait_for(lambda text: "step 20  warning  the loss went up" in text)
    assert "█" in text
    assert "body.weight" in text
    view.press(b"q")
    assert view.ended() == 0


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_it_quits_and_leaves_the_terminal_as_it_was(record, terminal, key):
    view = terminal(record([[1.0, 3.0]] * 50))
    view.wait_for(lambda text: "finished" in text)
    view.press(key)
    assert view.ended() == 0
    assert termios.tcgetattr(view.its) == view.before
    assert view.raw.rindex(b"\x1b[?1049l") > view.raw.rindex(b"\x1b[?1049h")
    assert view.raw.rindex(b"\x1b[?25h") > view.raw.rindex(b"\x1b[?25l")
    assert b"Traceback" not in view.raw


def test_told_to_end_it_leaves_the_terminal_as_it_was(record, terminal):
    view = terminal(record([[1.0, 3.0]] * 50))
    view.wait_for(lambda text: "finished" in text)
    view.process.send_signal(signal.SIGTERM)
    assert view.ended() == 143
    assert termios.tcgetattr(view.its) == view.before
    assert b"\x1b[?1049l" in view.raw


SHELL = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
def foreground(group):
    os.tcsetpgrp(0, group)
child = subprocess.Popen(sys.argv[2:], preexec_fn=os.setpgrp)
foreground(child.pid)
status = os.waitpid(child.pid, os.WUNTRACED)[1]
assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTSTP, status
foreground(os.getpgrp())
open(sys.argv[1], "w").close()
sys.stdin.readline()
foreground(child.pid)
os.kill(child.pid, signal.SIGCONT)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]))
"""


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(record, terminal, tmp_path):
    stopped = tmp_path / "stopped"
    view = terminal(record([[1.0, 3.0]] * 50), shell=("-c", SHELL, str(stopped)))
    view.wait_for(lambda text: "finished" in text)
    view.press(b"\x1a")
    view.wait_for(lambda _: stopped.exists())
    view.read(0.2)
    assert termios.tcgetattr(view.its) == view.before
    assert view.raw.rindex(b"\x1b[?1049l") > view.raw.rindex(b"\x1b[?1049h")
    assert view.raw.rindex(b"\x1b[?25h") > view.raw.rindex(b"\x1b[?25l")
    view.press(b"\n")
    view.wait_for(
        lambda text: "finished" in text and view.raw.rindex(b"\x1b[?1049h") > view.raw.rindex(b"\x1b[?1049l")
    )
    view.press(b"q")
    assert view.ended() == 0
    assert b"Traceback" not in view.raw


def test_it_follows_the_size_of_the_terminal(record, terminal):
    view = terminal(record([[1.0, 3.0]] * 50), lines=24, columns=80)
    view.wait_for(lambda text: "-" * 80 in text)
    view.resize(40, 130)
    view.wait_for(lambda text: "-" * 130 in text and view.screen.display[-1].startswith("q quit"))
    view.resize(8, 30)
    view.wait_for(lambda text: "-" * 30 in text and view.screen.display[7].startswith("q quit"))
    view.press(b"q")
    assert view.ended() == 0


def test_the_runs_of_a_folder_are_listed_and_chosen_by_arrow(record, terminal, tmp_path):
    record([[1.0]] * 20, name="older", started=1.6e9)
    record([[1.0]] * 30, name="newer", started=1.7e9)
    view = terminal(tmp_path)
    text = view.wait_for(lambda text: "step 29" in text)
    assert text.index("newer.steady") < text.index("older.steady")
    view.press(b"\x1b[B")
    view.wait_for(lambda text: "step 19" in text)
    assert any(line.startswith("> 2020-09") for line in view.screen.display)
    view.press(b"k")
    view.wait_for(lambda text: "step 29" in text)
    record([[1.0]] * 40, name="newest", started=1.8e9)
    view.wait_for(lambda text: "newest.steady" in text)
    assert "step 29" in view.text  # what was chosen stays open
    view.press(b"q")
    assert view.ended() == 0


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "vt100", "NO_COLOR": "1"}])
def test_without_colour_not_one_colour_is_sent(record, terminal, environment):
    view = terminal(record([[1.0, float("nan")]] * 50), **environment)
    view.wait_for(lambda text: "finished" in text)
    view.press(b"q")
    assert view.ended() == 0
    codes = {code for group in re.findall(rb"\x1b\[([0-9;]*)m", view.raw) for code in group.split(b";")}
    assert not codes & {str(code).encode() for code in [*range(30, 50), *range(90, 108)]}


def test_a_dumb_terminal_gets_one_plain_print(record, terminal):
    view = terminal(record([[1.0, 3.0]] * 50), TERM="dumb")
    assert view.ended() == 0
    assert b"\x1b" not in view.raw
    assert "Healthy: 50 steps" in view.text


def test_a_terminal_without_unicode_gets_ascii(record, terminal):
    view = terminal(record([[1.0, 3.0]] * 50), PYTHONIOENCODING="ascii", NO_COLOR="1")
    view.wait_for(lambda text: "finished" in text)
    view.press(b"q")
    assert view.ended() == 0
    assert view.raw.isascii()
    assert b"\\u" not in view.raw


def test_a_terminal_that_goes_away_ends_it(record, terminal):
    view = terminal(record([[1.0, 3.0]] * 50))
    view.wait_for(lambda text: "finished" in text)
    os.close(view.its)
    os.close(view.mine)
    view.its, view.mine = os.openpty()
    assert view.process.wait(30) in {0, -signal.SIGHUP}


def test_a_pipe_gets_what_there_is_now(record, call, tmp_path):
    code, out, err = call("live", "--terminal", record([[1.0, 3.0]] * 50))
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "Healthy: 50 steps" in out
    assert "q quit" not in out
    code, out, _ = call("live", "--terminal", tmp_path)
    assert code == 0
    assert "> 2023-11-14" in out


def test_a_pipe_that_is_closed_ends_it(record, tmp_path):
    path = record([[1.0]])
    for number in range(300):
        shutil.copy(path, tmp_path / f"a-run-with-a-long-name-{number}.steady")
    command = f"{sys.executable} -m steadygrad live --terminal {tmp_path} 2>{tmp_path}/err | head -c 10"
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)
    assert (tmp_path / "err").read_text() == ""


@pytest.mark.parametrize("content", [None, b"", b"nothing of ours", b"SQLite format 3\x00" + bytes(200)])
def test_what_holds_no_run_is_one_sentence(call, tmp_path, content):
    path = tmp_path / "a.steady"
    if content is not None:
        path.write_bytes(content)
    code, out, err = call("live", "--terminal", path)
    assert (code, out) == (1, "")
    assert err.startswith("steadygrad: error: ")
    assert str(path) in err


def test_a_folder_without_runs_says_so(call, tmp_path):
    assert call("live", "--terminal", tmp_path)[:2] == (0, f"No runs in {tmp_path} yet.\n")


@pytest.fixture
def serving():
    """Start `steadygrad live` as a server; gives the process and the address that it says."""
    started = []

    def serve(*arguments):
        command = [sys.executable, "-m", "steadygrad", "live", *map(str, arguments), "--port", "0"]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        line = started[-1].stderr.readline()
        return started[-1], re.search(r"http://\S+?(?=[;,]? )", line).group()

    yield serve
    for process in started:
        process.kill()
        process.communicate()
        process.stderr.close()


def test_metrics_are_served_until_ctrl_c(serving, record, tmp_path):
    record([[1.0]] * 7)
    process, address = serving("--metrics", tmp_path)
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert 'steadygrad_steps_total{run="first.steady"} 7.0' in answer.read().decode()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert process.stderr.read() == ""


def test_a_port_that_is_taken_is_one_sentence(call, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = call("live", "--metrics", tmp_path, "--port", port)
    assert (code, out) == (1, "")
    assert f"port {port} of 127.0.0.1" in err
    assert "--port" in err


def test_one_view_at_a_time(call, tmp_path):
    code, _, err = call("live", "--metrics", "--terminal", tmp_path)
    assert code == 2
    assert "Choose one" in err


@pytest.mark.parametrize("how", [(), ("--metrics",)])
def test_what_will_never_be_a_run_is_not_waited_for(call, tmp_path, how):
    path = tmp_path / "notes.steady"
    path.write_text("nothing of ours")
    code, out, err = call("live", *how, path, "--port", "0")
    assert (code, out) == (1, "")
    assert "notes.steady is not a steadygrad run" in err


def test_a_place_that_isnt_there_is_said_to_be_awaited(tmp_path):
    command = [sys.executable, "-m", "steadygrad", "live", str(tmp_path / "typo"), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
    assert "once it is there, which it isn't yet" in line
