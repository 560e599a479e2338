import contextlib
import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest

from steadygrad.errors import RunFileError, UsageError
from steadygrad.records import RunInfo
from steadygrad.runfile import RunWriter, open_run
from steadygrad.runfile.claim import kind_of, network_kind


def write(path, info):
    with RunWriter(path, info()) as writer:
        pass
    return writer.path


def test_a_run_is_never_overwritten(tmp_path, info):
    wanted = tmp_path / "a.steady"
    assert [Path(write(wanted, info)).name for _ in range(3)] == ["a.steady", "a-2.steady", "a-3.steady"]


def test_a_run_being_written_is_never_overwritten(tmp_path, info):
    with (
        RunWriter(tmp_path / "a.steady", info()) as first,
        RunWriter(tmp_path / "a.steady", info()) as second,
    ):
        assert first.path != second.path


def test_the_path_is_kept_as_given_and_folders_are_made(tmp_path, info, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write("deep/er/run", info) == str(tmp_path / "deep" / "er" / "run")
    assert write(":memory:", info) == str(tmp_path / ":memory:")
    assert write("file:x?mode=memory", info) == str(tmp_path / "file:x?mode=memory")
    assert write(os.fsencode("bytes"), info) == str(tmp_path / "bytes")


def test_a_file_of_somebody_else_is_left_alone(tmp_path, info):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(RunFileError, match="exists and is not a steadygrad run; it was left alone"):
        RunWriter(path, info())
    assert path.read_text() == "hello"
    database = tmp_path / "a.db"
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE t(x)")
    connection.close()
    assert kind_of(str(database)) == "foreign"
    with pytest.raises(RunFileError, match="not a steadygrad run"):
        RunWriter(database, info())


def test_an_empty_file_may_be_a_run_that_begins(tmp_path, info):
    (tmp_path / "a.steady").touch()
    assert Path(write(tmp_path / "a.steady", info)).name == "a-2.steady"


def begin_together(folder, barrier, rounds, told):
    """One of several processes that all begin a run of the same name, again and again."""
    info = RunInfo("a", "watch", "", 0.0, "Net", (), (), {}, (), 0, 1)
    paths = []
    for number in range(rounds):
        barrier.wait()
        with RunWriter(folder / str(number) / "a.steady", info) as writer:
            paths.append(writer.path)
    told.put(paths)


def test_processes_that_begin_a_run_of_one_name_at_once_have_one_each(tmp_path):
    context, count, rounds = multiprocessing.get_context("spawn"), 4, 40
    barrier, told = context.Barrier(count, timeout=60), context.Queue()
    processes = [
        context.Process(target=begin_together, args=(tmp_path, barrier, rounds, told)) for _ in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count
    paths = {path for _ in processes for path in told.get()}
    assert len(paths) == count * rounds


def test_a_database_without_tables_may_be_a_run_that_begins(tmp_path, info):
    with contextlib.closing(sqlite3.connect(tmp_path / "a.steady")) as connection:
        connection.execute("CREATE TABLE t(x)")
        connection.execute("DROP TABLE t")
        connection.commit()
    assert Path(write(tmp_path / "a.steady", info)).name == "a-2.steady"


@pytest.mark.parametrize("path", ["file/below.steady", "/proc/nowhere/a.steady", "/proc/a.steady", "."])
def test_a_path_that_cant_be_written_raises_at_once(tmp_path, info, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RunFileError, match=r"can't (make|create)|is a folder"):
        RunWriter(path, info())


@pytest.mark.parametrize(
    ("kind", "told"), [("device", "a device"), ("pipe", "a pipe"), ("link", "leads nowhere")]
)
def test_what_is_no_regular_file_is_told_and_left_alone(tmp_path, info, kind, told):
    path = Path("/dev/null") if kind == "device" else tmp_path / "a.steady"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunFileError, match=f"{path}.*{told}.*Choose"):
        RunWriter(path, info())
    assert {one.name for one in tmp_path.iterdir()} <= {"a.steady"}
    assert not Path("/dev/null-2").exists()


def test_a_link_to_a_run_is_no_run_of_ours(tmp_path, info):
    write(tmp_path / "a.steady", info)
    (tmp_path / "b.steady").symlink_to(tmp_path / "a.steady")
    assert Path(write(tmp_path / "b.steady", info)).name == "b-2.steady"


@pytest.mark.parametrize(
    "wrong", [{"size_cap_bytes": 1000}, {"chunk_steps": 0}, {"flush_s": 0.0}, {"flush_s": float("nan")}]
)
def test_numbers_that_cant_work_raise_and_leave_no_file(tmp_path, info, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        RunWriter(tmp_path / "a.steady", info(), **wrong)
    assert list(tmp_path.iterdir()) == []


MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/ada/local\\040disk xfs rw 0 0
me@there: /mnt/far fuse.sshfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/a", None),
        ("/home/ada/a", "nfs4"),
        ("/home/ada/local disk/a", None),
        ("/homestead/a", None),
        ("/mnt/far/a", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_known_by_their_mount(path, kind):
    assert network_kind(path, MOUNTS) == kind


def test_without_a_shared_log_a_run_is_written_and_says_so(tmp_path, info, wild, monkeypatch):
    monkeypatch.setattr("steadygrad.runfile.database.network_kind", lambda path: "nfs4")
    writer = RunWriter(tmp_path / "a.steady", info())
    for reading in wild(200, 4):
        writer.append(reading)
    assert writer.flush()
    assert open_run(writer.path).steps.size == 200
    assert [path.name for path in tmp_path.iterdir()] == ["a.steady"]
    writer.close()
    assert "network file system (nfs4)" in writer.notice
    assert writer.fault is None
