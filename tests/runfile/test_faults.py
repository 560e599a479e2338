import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from steadygrad.records import Finding, Reading
from steadygrad.runfile import RunWriter, open_run
from steadygrad.runfile import recorder as recording


def steps(writer, count, tensors=4, start=0):
    for step in range(start, start + count):
        writer.append(Reading(step, np.ones(tensors), 1.0))


@pytest.fixture
def writer(tmp_path, info):
    writer = RunWriter(tmp_path / "a.steady", info(4))
    writer.lines = []
    writer.on_fault = writer.lines.append
    steps(writer, 100)
    assert writer.flush()
    yield writer
    writer.close(1.0)


def assert_ended_with(writer, words):
    steps(writer, 1000)
    writer.finding(Finding("x", "error", 0, (), "s"))
    writer.close()
    assert words in writer.fault
    assert writer.lines == [writer.fault]
    assert "\n" not in writer.fault


@pytest.mark.parametrize("name", ["a.steady", "a.steady-wal"])
def test_a_file_removed_under_us_ends_the_recording_with_one_line(tmp_path, writer, name):
    (tmp_path / name).unlink()
    steps(writer, 100)
    assert not writer.flush()
    assert_ended_with(writer, "was removed")


def test_a_file_replaced_under_us_is_not_written(tmp_path, writer):
    (tmp_path / "other").write_text("precious")
    (tmp_path / "other").replace(writer.path)
    assert_ended_with(writer, "was removed or replaced")
    assert (tmp_path / "a.steady").read_text() == "precious"


DISK_FULL = """
    import resource, sys
    import numpy as np
    from steadygrad.records import Reading, RunInfo, TensorInfo
    from steadygrad.runfile import RunWriter, open_run
    writer = RunWriter(sys.argv[1], RunInfo("a", tensors=tuple(TensorInfo(f"t{i}") for i in range(200))))
    writer.on_fault = print
    rng = np.random.default_rng(0)
    def train(count):
        for step in range(count):
            writer.append(Reading(step, np.exp(rng.normal(0, 1, 200)), 1.0))
    train(100)
    assert writer.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    train(3000)
    writer.flush()
    train(3000)
    writer.close()
    print(open_run(writer.path).steps.size >= 100, "trained on")
"""


def run_apart(script, path):
    """In a process of its own, whose limits are its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_full_disk_ends_the_recording_and_the_file_stays_whole(tmp_path):
    done = run_apart(DISK_FULL, tmp_path / "a.steady")
    first, second = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert first.startswith("recording ended: ")
    assert "full" in first or "I/O" in first
    assert second == "True trained on"


NO_ROOM = """
    import resource, signal, sys
    from pathlib import Path
    from steadygrad.errors import RunFileError
    from steadygrad.records import RunInfo, TensorInfo
    from steadygrad.runfile import RunWriter, database
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))
    database.disk_usage = lambda path: type("Usage", (), {"free": 16_000})
    try:
        RunWriter(sys.argv[1], RunInfo("a", tensors=(TensorInfo("t"),)))
    except RunFileError as error:
        print(error, sorted(Path(sys.argv[1]).parent.iterdir()))
"""


def test_a_disk_that_is_full_from_the_start_is_told_and_left_clean(tmp_path):
    done = run_apart(NO_ROOM, tmp_path / "a.steady")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"can't write the run file: the disk of {tmp_path / 'a.steady'} is full. []\n"


def test_no_room_left_in_the_database_reads_as_a_full_disk(tmp_path, info, monkeypatch):
    def small(path, **options):
        connection = connect(path, **options)
        connection.execute("PRAGMA max_page_count=40")
        return connection

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", small)
    writer = RunWriter(tmp_path / "a.steady", info(4))
    monkeypatch.undo()
    rng = np.random.default_rng(0)
    for step in range(20_000):
        writer.append(Reading(step, np.exp(rng.normal(0, 1, 4)), 1.0))
        if step in (63, 127):
            # On a busy machine the writer would put everything into the one chunk that doesn't fit.
            assert writer.flush()
    writer.close()
    assert "the disk of" in writer.fault
    assert "is full" in writer.fault
    assert open_run(writer.path).steps.size > 64


def test_a_lock_held_for_a_while_only_delays(writer):
    other = sqlite3.connect(writer.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    steps(writer, 300, start=100)
    assert not writer.flush(0.6)
    start = time.perf_counter()
    writer.finding(Finding("x", "error", 0, (), "s"))
    assert time.perf_counter() - start < 1.0
    other.execute("ROLLBACK")
    other.close()
    assert writer.flush()
    assert writer.fault is None
    run = open_run(writer.path)
    np.testing.assert_array_equal(run.steps, np.arange(400))
    assert len(run.findings) == 1


def test_a_lock_held_for_long_is_told_once_and_memory_stays_bounded(writer, monkeypatch):
    monkeypatch.setattr(recording, "_PATIENCE_S", 0.1)
    writer._recorder._pending_limit = 2000
    other = sqlite3.connect(writer.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    steps(writer, 100)
    deadline = time.monotonic() + 10
    while not writer.lines and time.monotonic() < deadline:
        steps(writer, 16)
        time.sleep(0.05)
    assert writer.fault is None
    assert "another program holds a lock" in writer.lines[0]
    steps(writer, 5000)
    assert "could not be written for too long" in writer.fault
    assert len(writer.lines) == 1
    other.close()


def test_closing_under_a_lock_gives_up_in_time_and_says_what_is_missing(writer):
    other = sqlite3.connect(writer.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    steps(writer, 50)
    start = time.monotonic()
    writer.close(0.5)
    assert time.monotonic() - start < 2
    assert "its newest steps are missing" in writer.fault
    assert writer.lines == [writer.fault]
    other.close()


def test_a_reader_that_never_lets_go_cant_make_the_log_grow_for_ever(tmp_path, info):
    cap = 400_000
    writer = RunWriter(tmp_path / "a.steady", info(40), size_cap_bytes=cap)
    rng = np.random.default_rng(0)
    norms = np.exp(rng.normal(0, 1, (2000, 40)))
    writer.append(Reading(0, norms[0], 1.0))
    assert writer.flush()
    reader = sqlite3.connect(writer.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM chunk").fetchall()
    for step in range(1, 2000):
        writer.append(Reading(step, norms[step], 1.0))
        if step % 64 == 0:
            writer.flush(0.05)
    assert sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix != ".steady-shm") <= cap
    reader.close()
    assert writer.flush()
    writer.close()
    assert writer.fault is None
    assert open_run(writer.path).step_count == 2000


def test_a_reading_that_fits_no_tensors_ends_the_recording_only(writer):
    writer.append(Reading(0, np.ones(7), 1.0))
    assert_ended_with(writer, "a reading of optimizer 0 has 7 norms; the run has 4 tensors")


def test_a_callback_that_fails_or_closes_is_harmless(writer):
    def callback(line):
        writer.lines.append(line)
        writer.close()
        raise ZeroDivisionError

    writer.on_fault = callback
    Path(writer.path).unlink()
    assert_ended_with(writer, "was removed")
