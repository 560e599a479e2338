from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture
def run(record):
    return record(np.ones((12, 4)))


def test_one_run_is_one_file(call, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("report", run)
    page = tmp_path / "first.html"
    assert (code, err) == (0, "")
    assert out.startswith(page.as_uri())
    assert "Healthy: 12 steps" in page.read_text()
    assert not list(tmp_path.glob("*.part"))


def test_two_runs_are_compared(call, run, record, tmp_path):
    other = record(np.full((12, 4), 3.0), name="second")
    assert call("report", run, other, "-o", tmp_path / "both.html")[0] == 0
    assert "The runs part at step 0" in (tmp_path / "both.html").read_text()


def test_dash_is_stdout(call, run):
    code, out, _ = call("report", run, "-o", "-")
    assert code == 0
    assert out.startswith("<!DOCTYPE html>")


def test_a_page_is_written_again(call, run, tmp_path):
    (tmp_path / "page.html").write_text("old")
    assert call("report", run, "-o", tmp_path / "page.html")[0] == 0
    assert (tmp_path / "page.html").read_text() != "old"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("{run}", "{run}", "{run}"), "Expected one run, or two to compare; got 3."),
        (("{run}", "-o", "{run}"), "is the run itself"),
        (("{run}", "-o", "{folder}"), "is a folder"),
        (("{run}", "-o", "{folder}/no/page.html"), "There is no folder"),
        (
            ("{run}", "-o", "/proc/page.html"),
            "Can't write /proc/page.html (No such file or directory). Choose another",
        ),
        (("nowhere",), "There is no run 'nowhere'"),
        (("{folder}/foreign.steady",), "foreign.steady"),
    ],
)
def test_wrong_use_is_said_in_one_line(call, run, tmp_path, arguments, says):
    (tmp_path / "foreign.steady").write_bytes(b"no run at all" * 99)
    code, _, err = call("report", *(text.format(run=run, folder=tmp_path) for text in arguments))
    assert code in {1, 2}
    assert says in err
    assert err.count("\n") == 1


def test_anew_judges_the_numbers(call, record, tmp_path):
    norms = np.ones((60, 4))
    norms[40:] = np.nan
    path = record(norms)
    call("report", path, "--anew", "-o", tmp_path / "page.html")
    assert 'id="finding-1"' in (tmp_path / "page.html").read_text()


def test_an_old_bokeh_is_told_with_the_way_out(call, run, tmp_path, monkeypatch):
    known = tmp_path / "site" / "bokeh-3.0.0.dist-info"
    known.mkdir(parents=True)
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: bokeh\nVersion: 3.0.0\n")
    monkeypatch.syspath_prepend(known.parent)
    code, _, err = call("report", run)
    assert code == 1
    assert 'pip install "steadygrad[report]"' in err
    assert "steadygrad explain RUN" in err
    assert call("explain", run)[0] == 0


def test_no_torch_is_needed(run, tmp_path):
    arguments = ["report", str(run), "-o", str(tmp_path / "page.html")]
    code = (
        "import sys, atexit\nsys.modules['torch'] = None\n"
        f"from steadygrad.cli import main\nmain({arguments!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "page.html").stat().st_size > 1e6


def test_a_run_draws_itself(run):
    from steadygrad import open_run

    with open_run(run) as opened:
        assert {model.name for model in opened.plot().children} >= {"total norm", "heat section"}
