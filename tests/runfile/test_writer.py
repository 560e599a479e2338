import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from steadygrad.records import Finding, Incident, Reading
from steadygrad.runfile import RunWriter, open_run

START = """
    import os, sys, time
    import numpy as np
    from steadygrad.records import Finding, Reading, RunInfo, TensorInfo
    from steadygrad.runfile import RunWriter
    writer = RunWriter(sys.argv[1], RunInfo("a", tensors=(TensorInfo("w"), TensorInfo("b"))), flush_s=float(sys.argv[2]))
    def step(number):
        writer.append(Reading(number, np.array([number + 1.0, 1.0]), number + 1.0))
"""


def script(text, path, flush_s=2.0):
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            textwrap.dedent(START) + textwrap.dedent(text),
            str(path),
            str(flush_s),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def writing_threads():
    return [thread for thread in threading.enumerate() if thread.name == "steadygrad-run"]


@pytest.mark.parametrize("alive_s", [0.0, 0.1, 0.5, 1.5])
def test_a_killed_process_loses_at_most_64_steps_and_never_the_file(tmp_path, alive_s):
    process = script(
        """
        for number in range(10**9):
            step(number)
            print(number, flush=True)
            time.sleep(0.005)  # the last 16 of them give a thread on a busy machine 80 ms
        """,
        tmp_path / "a.steady",
    )
    process.stdout.readline()
    time.sleep(alive_s)
    process.send_signal(signal.SIGKILL)
    printed = process.communicate()[0].split("\n")
    last = int(printed[-2]) if len(printed) > 1 else 0
    run = open_run(tmp_path / "a.steady")
    assert run.steps.size >= last - 64
    np.testing.assert_array_equal(run.steps, np.arange(run.steps.size))
    np.testing.assert_allclose(run.norms("w"), run.steps + 1.0, rtol=0.002)
    assert not run.finished


def test_slow_steps_are_safe_after_the_flush_interval(tmp_path):
    process = script("step(0); print(flush=True); time.sleep(60)", tmp_path / "a.steady", flush_s=0.2)
    process.stdout.readline()
    time.sleep(0.8)
    process.kill()
    process.communicate()
    assert open_run(tmp_path / "a.steady").steps.size == 1


def test_a_finding_and_all_before_it_are_safe_when_the_call_returns(tmp_path):
    text = "step(0); writer.finding(Finding('x', 'error', 0, (), 's')); os.kill(os.getpid(), 9)"
    script(text, tmp_path / "a.steady", flush_s=60.0).communicate()
    run = open_run(tmp_path / "a.steady")
    assert (run.steps.size, len(run.findings)) == (1, 1)


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "del writer", "raise KeyboardInterrupt", "writer.close(); writer.close()"]
)
def test_a_script_that_ends_loses_nothing(tmp_path, end):
    process = script(f"for number in range(1000): step(number)\n{end}\n", tmp_path / "a.steady")
    _, errors = process.communicate(timeout=20)
    run = open_run(tmp_path / "a.steady")
    assert (run.steps.size, run.finished) == (1000, True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.steady"]
    assert errors.strip().splitlines()[-1:] in ([], ["KeyboardInterrupt"])


FORK = """
    step(0)
    writer.flush()
    if os.fork() == 0:
        for number in range(500):
            step(number)
        writer.finding(Finding("child", "error", 0, (), "s"))
        writer.scalar(0, "child", 1.0)
        assert writer.flush() is False
        writer.close()
        del writer
        sys.exit(0)
    print(os.wait()[1])
    for number in range(1, 300):
        step(number)
"""


def test_a_forked_child_leaves_the_run_alone(tmp_path):
    output, errors = script(FORK, tmp_path / "a.steady").communicate(timeout=30)
    assert (output.strip(), errors) == ("0", "")
    run = open_run(tmp_path / "a.steady")
    np.testing.assert_array_equal(run.steps, np.arange(300))
    assert (run.findings, run.scalar_names, run.finished) == ((), (), True)


def test_a_dropped_writer_finishes_its_file_and_its_thread(tmp_path, info):
    writer = RunWriter(tmp_path / "a.steady", info(2))
    for step in range(100):
        writer.append(Reading(step, np.ones(2), 1.0))
    path, mine = writer.path, set(writing_threads())
    del writer
    gc.collect()
    for thread in mine:
        thread.join(10)
    assert not any(thread.is_alive() for thread in mine)
    run = open_run(path)
    assert (run.steps.size, run.finished) == (100, True)


def test_nothing_is_recorded_after_close(tmp_path, info):
    writer = RunWriter(tmp_path / "a.steady", info(2))
    writer.close()
    writer.append(Reading(0, np.ones(2), 1.0))
    writer.finding(Finding("x", "info", 0, (), "s"))
    writer.incident(Incident(0, "skip", "s"))
    writer.close()
    assert writer.flush() is False
    assert open_run(writer.path).steps.size == 0
    assert writer.fault is None


def test_the_training_pays_little_for_a_step(tmp_path, info):
    norms, took = np.ones(100, np.float32), []
    with RunWriter(tmp_path / "a.steady", info(100)) as writer:
        for step in range(3000):
            reading = Reading(step, norms, 1.0)
            start = time.perf_counter()
            writer.append(reading)
            took.append(time.perf_counter() - start)
    assert np.median(took) < 10e-6


def test_several_threads_may_append(tmp_path, info):
    with RunWriter(tmp_path / "a.steady", info(2)) as writer:
        threads = [
            threading.Thread(target=lambda: [writer.append(Reading(s, np.ones(2), 1.0)) for s in range(500)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert open_run(writer.path).steps.size == 2000


def log_normal(steps, tensors):
    rng = np.random.default_rng(0)
    drift = np.cumsum(rng.normal(0, 0.01, (steps, tensors)), axis=0)
    shared, own = rng.normal(0, 0.28, (steps, 1)), rng.normal(0, 0.28, (steps, tensors))
    return np.exp(rng.normal(-3, 2, tensors) + drift + shared + own).astype(np.float32), rng


@pytest.mark.parametrize("tensors", [6, 76, 402])
def test_a_tensor_and_step_cost_at_most_two_and_a_half_bytes(tmp_path, info, tensors):
    norms, rng = log_normal(2000, tensors)
    with RunWriter(tmp_path / "a.steady", info(tensors)) as writer:
        for step, row in enumerate(norms):
            total = float(np.linalg.norm(row))
            lr = 1e-3 * (0.5 + 0.5 * np.cos(step / 640))
            time_s, loss = 0.012 * step + rng.normal(0, 0.001), 2 + rng.normal(0, 0.05)
            writer.append(
                Reading(step, row, total, lr=lr, time_s=time_s, loss=loss, cap=3 * np.exp(-step / 999))
            )
    assert Path(writer.path).stat().st_size / norms.size <= 2.5
    assert open_run(writer.path).steps.size == 2000
