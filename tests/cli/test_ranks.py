from __future__ import annotations

import pytest


@pytest.fixture
def two_ranks(record, tmp_path):
    def write(name="a"):
        return [
            record(
                [[3.0]] * 4,
                name=f"{name}{rank}",
                path=tmp_path / f"{name}.rank{rank}.steady",
                rank=rank,
                world_size=2,
            )
            for rank in (0, 1)
        ]

    return write


def test_a_folder_of_ranks_is_told_by_the_first_and_then_together(call, two_ranks, tmp_path):
    two_ranks()
    code, out, err = call("explain", tmp_path)
    assert (code, err) == (0, "")
    assert "rank 0 of 2" in out
    assert "Ranks\n  The run files of all 2 ranks are here." in out


def test_the_file_of_any_rank_tells_of_all_beside_it(call, two_ranks):
    _, second = two_ranks()
    out = call("explain", second)[1]
    assert "rank 1 of 2" in out
    assert "The run files of all 2 ranks are here." in out


def test_a_folder_with_one_run_is_that_run(call, record, tmp_path):
    record([[3.0]], name="only")
    code, out, _ = call("explain", tmp_path)
    assert code == 0
    assert out.startswith("only")
    assert "\nRanks\n" not in out


def test_a_folder_with_several_says_how_to_pick(call, two_ranks, record, tmp_path):
    two_ranks()
    record([[3.0]], name="other")
    code, _, err = call("explain", tmp_path)
    assert code == 2
    assert "holds 2 runs" in err
    assert f"{tmp_path}/a.rank0.steady, {tmp_path}/other.steady" in err
    assert "any one's file tells of all" in err


def test_files_to_choose_from_are_named_as_one_would_type_them(call, record, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    for name in ("a", "b"):
        record([[1.0]], name=name, path=tmp_path / "runs" / f"{name}.steady")
    monkeypatch.chdir(tmp_path)
    _, _, err = call("report", "runs")
    assert "runs/a.steady" in err
    assert str(tmp_path) not in err
    assert "ranks" not in err


def test_an_empty_folder_is_said_to_be_one(call, tmp_path):
    code, _, err = call("report", tmp_path)
    assert code == 2
    assert f"No runs in {tmp_path}." in " ".join(err.split())


def test_a_report_of_ranks_puts_them_beside_each_other(call, two_ranks, tmp_path):
    two_ranks()
    code, out, _ = call("report", tmp_path, "-o", tmp_path / "page.html")
    assert code == 0
    assert out.startswith("file://")
    assert "The ranks beside each other" in (tmp_path / "page.html").read_text(encoding="utf-8")
