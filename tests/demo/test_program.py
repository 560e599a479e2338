from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import steadygrad as sg
from steadygrad.demo import program, run_demo
from steadygrad.demo.arms import ARMS
from steadygrad.errors import SteadygradError

ARM_KEYS = [arm.key for arm in ARMS]


@pytest.fixture(scope="module")
def quick_demo(tmp_path_factory):
    """What the quick demo prints into a pipe, and the folder of its runs."""
    out = tmp_path_factory.mktemp("demo") / "runs"
    text = StringIO()
    with redirect_stdout(text):
        run_demo(out, 0, quick=True)
    return text.getvalue(), out


@pytest.fixture
def line_demo(line, monkeypatch, tmp_path, capsys):
    """Run the whole demo on one task that takes milliseconds; returns what it prints."""

    def run(seed=0, workload=None):
        chosen = workload or line(scale=100.0, poison=(5,))
        monkeypatch.setattr(program, "_workloads", lambda seed, quick: [chosen])
        run_demo(tmp_path, seed, quick=False)
        return capsys.readouterr().out

    return run


def rows(text):
    """Label, held-out loss and the other cells of each row of the tables."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return [row for row in cells if len(row) == 6 and row[0] in {arm.label for arm in ARMS}]


def test_three_tables_with_a_row_for_each_arm(quick_demo):
    assert [row[0] for row in rows(quick_demo[0])] == [arm.label for arm in ARMS] * 3


def test_plain_training_is_lost_and_the_guard_stays_finite_and_ahead(quick_demo):
    losses = [float(row[1].split()[0]) for row in rows(quick_demo[0])]
    for plain, clip, guarded in zip(losses[::3], losses[1::3], losses[2::3], strict=True):
        assert plain != plain  # noqa: PLR0124 - NaN
        assert not guarded >= clip
        assert guarded < float("inf")


def test_guard_names_step_and_place(quick_demo):
    for row in rows(quick_demo[0])[2::3]:
        assert row[2].isdigit()
        # A parameter, or the layer whose output is too large from the start.
        assert row[3].endswith(("weight", "bias", "weight_hh_l0")) or re.fullmatch(r"layers\.\d+", row[3])


def test_every_run_is_recorded_and_can_be_read(quick_demo):
    text, out = quick_demo
    runs = sorted(out.glob("*.steady"))
    assert [run.stem for run in runs] == sorted(
        f"{task}-{arm}" for task in ("text", "digits", "table") for arm in ARM_KEYS
    )
    for path in runs:
        assert str(path) in text
        with sg.open_run(path) as run:
            assert len(run.steps) > 0


def test_next_command_names_a_run_that_exists(quick_demo):
    command = re.search(r"steadygrad explain (\S+)", quick_demo[0])
    assert Path(command[1]).is_file()


def test_piped_output_has_no_bars_and_no_escape_codes(quick_demo):
    assert "\x1b" not in quick_demo[0]
    assert "━" not in quick_demo[0]


def test_snippet_and_what_is_wrong_with_it_are_shown(quick_demo):
    text = quick_demo[0]
    assert "loss = torch.tensor(100.0, requires_grad=True)" in text
    assert "error: disconnected_loss at step 0" in text
    assert "try: " in text


def test_quick_demo_says_that_it_is_quick(quick_demo, line_demo):
    assert "Quick" in quick_demo[0]
    assert "Quick" not in line_demo()


def test_healthy_task_is_reported_as_healthy(line_demo, line):
    text = line_demo(workload=line())
    assert text.count("learned") == 3
    assert all(row[2] == "-" for row in rows(text))


@pytest.mark.parametrize("columns", ["20", "40", "200"])
def test_no_line_is_wider_than_the_terminal_but_paths(line_demo, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    text = line_demo()
    paths = [line for line in text.splitlines() if ".steady" in line]
    assert all(len(line) <= int(columns) for line in text.splitlines() if line not in paths)
    assert len(paths) == 4


def test_same_seed_prints_the_same_tables(line_demo):
    assert rows(line_demo(seed=1)) == rows(line_demo(seed=1)) != rows(line_demo(seed=2))


class Terminal(StringIO):
    """A stdout that says it is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize("no_color", [False, True])
def test_colours_on_a_terminal_unless_forbidden(line_demo, monkeypatch, no_color):
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    line_demo()
    assert bool(re.search(r"\x1b\[[0-9;]*3[1-7]", screen.getvalue())) != no_color


def test_missing_scikit_learn_is_a_sentence_with_the_pip_line(monkeypatch, tmp_path):
    monkeypatch.setattr(program, "find_spec", lambda name: None)
    with pytest.raises(SteadygradError, match=r"scikit-learn.*isn't installed.*pip install scikit-learn"):
        run_demo(tmp_path, 0, quick=True)
    assert not list(tmp_path.iterdir())


def test_folder_that_is_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "taken").write_text("")
    with redirect_stdout(StringIO()), pytest.raises(SteadygradError, match="taken"):
        run_demo(tmp_path / "taken", 0, quick=True)
