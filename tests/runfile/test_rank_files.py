from __future__ import annotations

import pytest

from steadygrad.runfile.rank_files import trainings_in, with_siblings


@pytest.mark.parametrize(
    "named",
    [
        "train.rank{}.steady",
        "a.{}.steady",
        "run10.{}.steady",
        "lr0.rank{}-v0.steady",
        "rank{}.steady",
        "2-of-{}.steady",
    ],
)
def test_the_files_of_a_training_are_found_whatever_stands_around_the_rank(record, tmp_path, named):
    paths = [
        record([[1.0]], name=f"r{rank}", path=tmp_path / named.format(rank), rank=rank, world_size=12)
        for rank in (0, 1, 2, 11)
    ]
    alone = record([[1.0]], name="alone", path=tmp_path / "alone.steady")
    groups, others = trainings_in(tmp_path)
    (group,) = groups
    assert list(group.paths.items()) == list(zip((0, 1, 2, 11), paths, strict=True))
    assert group.world_size == 12
    assert [one.path for one in others] == [str(alone)]
    assert with_siblings(paths[2]) == group
    assert with_siblings(alone) is None


def test_two_trainings_in_one_folder_are_kept_apart(record, tmp_path):
    for name in ("a", "b"):
        for rank in (0, 1):
            record([[1.0]], path=tmp_path / f"{name}.rank{rank}.steady", rank=rank, world_size=2)
    groups, _ = trainings_in(tmp_path)
    assert sorted(group.name for group in groups) == ["a.rank*.steady", "b.rank*.steady"]
    assert all(list(group.paths) == [0, 1] for group in groups)


def test_ranks_that_asked_for_the_same_name_are_one_training(record, tmp_path):
    """Whichever of them came first has the name itself; the others have a number behind it, which is not their rank."""
    for started in (1000.0, 9000.0):
        for rank in (2, 0, 1):
            path = tmp_path / "ddp.steady"
            record([[1.0]], path=path, name="ddp", rank=rank, world_size=3, started=started + rank)
    groups, _ = trainings_in(tmp_path)
    names = [[path.name for path in group.paths.values()] for group in groups]
    assert names == [
        ["ddp-5.steady", "ddp-6.steady", "ddp-4.steady"],
        ["ddp-2.steady", "ddp-3.steady", "ddp.steady"],
    ]
    assert all(list(group.paths) == [0, 1, 2] for group in groups)
    assert with_siblings(tmp_path / "ddp-6.steady") == groups[0]
