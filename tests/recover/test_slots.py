"""What a path leads to is whole at every instant."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from steadygrad.errors import UsageError
from steadygrad.recover import slots
from steadygrad.recover.slots import clear, free_slot, publish


def write(path, text, publishing=publish):
    slot = free_slot(path)
    clear(slot)
    (slot / "deep").mkdir(parents=True)
    (slot / "deep" / "file").write_text(text, encoding="ascii")
    publishing(slot, path)


def read(path):
    return (path / "deep" / "file").read_text(encoding="ascii")


def test_a_path_leads_to_the_newest_and_the_old_one_is_gone(tmp_path):
    path = tmp_path / "last"
    for text in ("a", "b", "c"):
        write(path, text)
        assert read(path) == text
        assert len(list(tmp_path.iterdir())) == 2


def test_wherever_a_kill_comes_the_path_leads_to_something_whole(tmp_path, monkeypatch):
    """Each operation on the file system in turn is the one that isn't made any more."""
    path = tmp_path / "last"
    write(path, "old")
    operations = [
        (Path, "unlink"),
        (Path, "symlink_to"),
        (Path, "replace"),
        (slots, "synchronise"),
        (slots, "clear"),
    ]
    ends = set()
    for (owner, name), count in itertools.product(operations, range(4)):
        calls = itertools.count()
        real = getattr(owner, name)

        def fatal(*args, real=real, calls=calls, count=count, **kwargs):
            if next(calls) == count:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        before = read(path)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fatal)
            try:
                write(path, f"{name}{count}", slots.publish)
            except KeyboardInterrupt:
                ends.add((name, count))
        assert read(path) in {before, f"{name}{count}"}
    assert {("unlink", 0), ("symlink_to", 0), ("replace", 0), ("clear", 0)} <= ends
    write(path, "new")
    assert read(path) == "new"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "theirs").mkdir()
    write(tmp_path / "theirs", "an empty one is nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UsageError, match="a folder of another kind"):
        free_slot(tmp_path / "other")
    assert (tmp_path / "other" / "file").exists()


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "last"
    path.write_text("of one process", encoding="ascii")
    write(path, "a")
    assert read(path) == "a"
