from __future__ import annotations

import os

import numpy as np
import pytest

from steadygrad.records import Reading
from steadygrad.runfile import RunWriter
from steadygrad.runfile.following import FolderFollower, Follower


def step(writer, number, norm=1.0):
    writer.append(Reading(number, np.full(4, norm), 2 * norm))
    assert writer.flush()


@pytest.fixture
def writing(tmp_path, info):
    with RunWriter(tmp_path / "a.steady", info()) as writer:
        yield writer


def test_each_written_step_is_new_once(writing):
    follower = Follower(writing.path)
    assert follower.look()
    for number in range(5):
        step(writing, number)
        assert follower.look()
        assert follower.run.steps.tolist() == list(range(number + 1))
        assert not follower.look()


def test_the_end_of_a_run_is_news(tmp_path, info):
    writer = RunWriter(tmp_path / "a.steady", info())
    step(writer, 0)
    follower = Follower(writer.path)
    follower.look()
    assert not follower.run.finished
    writer.close()
    assert follower.look()
    assert follower.run.finished


def test_following_leaves_the_finished_file_alone(tmp_path, info):
    """A connection kept open would keep the writer from making it one plain file."""
    writer = RunWriter(tmp_path / "a.steady", info())
    follower = Follower(writer.path)
    for number in range(3):
        step(writer, number)
        follower.look()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.steady"]


def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path, info):
    follower = Follower(tmp_path / "a.steady")
    assert follower.look()
    assert "no run can be read" in follower.fault
    assert not follower.look()
    with RunWriter(tmp_path / "a.steady", info()):
        assert follower.look()
        assert (follower.fault, follower.run.step_count) == ("", 0)


def test_a_file_that_went_away_keeps_its_last_run_on_show(writing):
    step(writing, 0)
    follower = Follower(writing.path)
    follower.look()
    os.remove(writing.path)  # noqa: PTH107
    assert follower.look()
    assert "no run can be read" in follower.fault
    assert follower.run.step_count == 1


def test_a_run_that_took_the_place_of_another_is_not_mixed_with_it(tmp_path, info):
    for started, norm in ((1.0, 3.0), (2.0, 5.0)):
        with RunWriter(tmp_path / f"{norm}.steady", info(started=started)) as writer:
            step(writer, 0, norm)
    follower = Follower(tmp_path / "3.0.steady")
    follower.look()
    os.replace(tmp_path / "5.0.steady", tmp_path / "3.0.steady")  # noqa: PTH105
    assert follower.look()
    assert follower.run.info.started == 2.0
    assert follower.run.total_norm.tolist() == [10.0]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_a_file_cut_anywhere_is_read_once_it_is_whole(record, share):
    path = record([[1.0, 3.0]] * 300)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    follower = Follower(path)
    assert follower.look()
    # What is cut off may be a part that nothing is read from.
    assert str(path) in follower.fault or follower.run.step_count == 300
    path.write_bytes(whole)
    assert follower.look()
    assert (follower.fault, follower.run.step_count) == ("", 300)


def test_steps_that_cant_be_unpacked_are_a_fault(record):
    import sqlite3

    path = record([[1.0]] * 30)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE chunk SET head=substr(head,1,4)")
    connection.close()
    follower = Follower(path)
    assert follower.look()
    assert "damaged" in follower.fault


def test_a_folder_shows_runs_as_they_come_change_and_go(tmp_path, info):
    folder = tmp_path / "runs"
    follower = FolderFollower(folder)
    assert not follower.look()
    assert follower.runs == ()
    with RunWriter(folder / "old.steady", info(started=1.0)), RunWriter(folder / "b.steady", info()) as new:
        (folder / "notes.txt").write_text("no run")
        assert follower.look()
        assert [os.path.basename(run.path) for run in follower.runs] == ["b.steady", "old.steady"]  # noqa: PTH119
        assert not follower.look()
        step(new, 0)
        assert follower.look()
        assert [run.steps for run in follower.runs] == [1, 0]
    assert follower.look()
    assert all(run.finished for run in follower.runs)
    (folder / "old.steady").unlink()
    assert follower.look()
    assert len(follower.runs) == 1
