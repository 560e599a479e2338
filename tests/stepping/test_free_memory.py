"""What may be taken of a machine's memory, in a container too."""

from __future__ import annotations

import math

import pytest

from steadygrad.stepping import free_bytes, free_memory

V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file 30\ntotal_active_file 20\n")
V2 = ("memory.max", "memory.current", "anon 50\ninactive_file 30\nactive_file 20\n")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Writes control groups into a folder of their own, which is looked at instead of the machine's."""
    monkeypatch.setattr(free_memory, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(free_memory, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(free_memory, "_free_on_host", lambda: 5000.0)

    def write(own, groups, files):
        (tmp_path / "own").write_text(own)
        for path, (limit, usage) in groups.items():
            folder = tmp_path / "groups" / path
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in zip((*files[:2], "memory.stat"), (limit, usage, files[2]), strict=True):
                (folder / name).write_text(f"{text}".strip() + "\n")

    return write


@pytest.mark.parametrize(
    ("groups", "free"),
    [
        ({"": (1000, 300)}, 750.0),
        ({"": ("max", 300)}, 5000.0),
        ({"a/b": (1000, 300)}, 750.0),
        ({"a": (900, 300), "a/b": (1000, 300)}, 650.0),
        ({"a": ("max", 300), "a/b": (10_000, 300)}, 5000.0),
        ({"": (1000, 1100)}, 0.0),
        ({"other": (1000, 300)}, 5000.0),
        ({}, 5000.0),
    ],
)
def test_a_group_takes_no_more_than_it_and_those_above_may(system, groups, free):
    system("0::/a/b\n", groups, V2)
    assert free_bytes() == free


@pytest.mark.parametrize(
    ("groups", "free"),
    [
        ({"memory/docker/x": (1000, 300)}, 750.0),
        ({"memory": (1000, 300)}, 750.0),  # as a container sees its own
        ({"memory": (9_223_372_036_854_771_712, 300)}, 5000.0),
    ],
)
def test_groups_of_the_first_version(system, groups, free):
    system("5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/\n", groups, V1)
    assert free_bytes() == free


def test_no_groups_at_all(system, tmp_path):
    assert not (tmp_path / "own").exists()
    assert free_bytes() == 5000.0


def test_this_machine_says_something():
    assert 0.0 < free_bytes() < math.inf
