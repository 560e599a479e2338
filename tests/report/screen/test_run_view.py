from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from steadygrad.records import Finding, Incident, TensorInfo
from steadygrad.report.screen.plan import share_out
from steadygrad.report.screen.run_view import RunView
from steadygrad.report.screen.tensor_table import end_of
from steadygrad.runfile import open_run

NOW_S = 1.7e9 + 100


def lines_of(run, width=100, height=None, **view):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    options = console.options.update(width=width, height=height)
    lines = console.render_lines(RunView(run, NOW_S, **view), options, pad=False)
    return ["".join(segment.text for segment in line) for line in lines]


@pytest.fixture
def course(record):
    """A run with everything in it."""
    rng = np.random.default_rng(0)
    norms = np.exp(rng.normal(0, 0.2, (300, 20)))
    norms[200, 3] = np.nan
    norms[295, 7] = 500.0
    changes = {step: {"loss": 2.0 - step / 200} for step in range(300)}
    changes[200] = {"skipped": True, "loss": float("nan")}
    changes[295] = {"clip_coef": 0.1, "cap": 12.0, "loss": 0.5}
    found = [Finding("loss_spike", "warning", step, (), f"went up at {step}") for step in range(250, 290)]
    return open_run(record(norms, changes, found, [Incident(201, "rollback", "ruined")]))


def test_everything_is_told_on_one_screen(course):
    text = "\n".join(lines_of(course, 120, 40))
    for part in (
        "first  guard, policy auto(), Net, SGD",
        "finished   step 299",
        "c scaled down 1 (< 1 %)   s skipped 1 (< 1 %)   r rolled back 1 (< 1 %)   ! non-finite 1 (< 1 %)",
        "loss  2 to 0.505",
        "total gradient norm  median",
        "newest findings  of 40 findings",
        "step 289  warning  went up at 289",
    ):
        assert part in text


def test_the_tensor_that_left_its_usual_size_stands_first(course):
    lines = lines_of(course, 100, 40)
    first = lines[next(i for i, line in enumerate(lines) if line.startswith("worst tensors")) + 1]
    assert first.split()[:1] == ["layers.7.weight"]
    assert first.split()[3].startswith("x")
    assert float(first.split()[3][1:]) > 300


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.integers(4, 200), st.integers(6, 90))
def test_any_size_is_kept(course, width, height):
    lines = lines_of(course, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


@given(st.integers(1, 250), st.integers(0, 100), st.booleans(), st.integers(0, 40))
def test_the_plan_fits(width, height, has_loss, findings):
    plan = share_out(width, height, has_loss=has_loss, findings=findings)
    pictures = (plan.picture + 3) * (1 + plan.loss) if plan.picture else 0
    lists = [count + 1 for count in (plan.tensors, plan.findings) if count]
    needed = (pictures // (1 + plan.loss) + max(lists, default=0)) if plan.wide else pictures + sum(lists)
    assert needed <= height
    assert plan.findings <= findings
    assert not (plan.loss and not has_loss)
    if height >= 20:
        assert plan.picture >= 2
        assert plan.tensors >= 3


def test_a_taller_terminal_never_shows_less():
    plans = [share_out(80, height, has_loss=True, findings=9) for height in range(3, 70)]
    for one, taller in itertools.pairwise(plans):
        assert taller.picture >= one.picture or taller.loss > one.loss
        assert taller.loss >= one.loss


def test_a_run_without_steps_says_so(record):
    assert any("no step was recorded" in line for line in lines_of(open_run(record(np.zeros((0, 2))))))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_run_with_only_nonfinite_values(record, bad):
    changes = {step: {"loss": bad} for step in range(20)}
    text = "\n".join(lines_of(open_run(record(np.full((20, 3), bad), changes)), 100, 40))
    assert "never finite" in text
    assert "16 bad" in text
    assert "! non-finite 20" in text


def test_a_loss_below_zero_gets_a_linear_axis(record):
    changes = {step: {"loss": 1.0 - step} for step in range(9)}
    text = "\n".join(lines_of(open_run(record(np.ones((9, 2)), changes))))
    assert "loss  1 to -7, linear axis" in text


def test_several_optimizers_are_shown_one_at_a_time(record):
    changes = {step: {"optimizer": step % 2, "step": step // 2} for step in range(8)}
    tensors = (TensorInfo("generator.weight"), TensorInfo("critic.weight", optimizer=1))
    norms = np.ones((8, 2))
    norms[::2, 1] = norms[1::2, 0] = 0.0
    run = open_run(record(norms, changes, optimizers=("SGD", "Adam"), tensors=tensors))
    for place, (mine, other) in enumerate([("generator", "critic"), ("critic", "generator")]):
        text = "\n".join(lines_of(run, optimizer=place))
        assert f"optimizer {place}, step 3" in text
        assert f"{mine}.weight" in text
        assert f"{other}.weight" not in text


def test_names_of_any_kind_stay_on_their_line(record):
    evil = "\x1b[2J\n</script><img src=x onerror=alert(1)>[red]:smile:"
    found = [Finding("loss_spike", "error", 3, (evil,), evil)]
    path = record(np.ones((9, 1)), findings=found, tensors=(TensorInfo(evil),), name="x", model=evil)
    lines = lines_of(open_run(path), 150, 30)
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert "[red]:smile:" in text
    assert len(lines) <= 30


def test_ten_thousand_tensors(record):
    names = tuple(TensorInfo(f"blocks.{i}.weight") for i in range(10_000))
    lines = lines_of(open_run(record(np.ones((3, 10_000)), tensors=names)), 80, 24)
    assert len(lines) <= 24


def test_the_end_of_a_name_is_kept():
    assert end_of("model.layers.31.q_proj.weight", 15) == "..q_proj.weight"
    assert end_of("語語語語", 5) == "..語 "


def test_the_fault_of_a_file_takes_the_place_of_the_verdict(course):
    assert lines_of(course, note="it is gone")[1] == "it is gone"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_shows_whole_numbers_the_telling_ones_first(record, width):
    norms = np.full((60, 4), np.nan)
    norms[0] = 1.0
    with open_run(record(norms, {step: {"loss": 1.0} for step in range(60)})) as run:
        lines = lines_of(run, width, 15)
    (acts,) = [line for line in lines if "non-finite 59" in line]
    assert acts.startswith("! non-finite 59 (98 %)") or width >= 80
    (numbers,) = [line for line in lines if line.startswith("finished")]
    for line in (acts, numbers):
        assert all(part.strip()[-1].isdigit() or part.strip()[-1] in ")den" for part in line.split("   "))
        assert len(line) <= width


def test_a_verdict_that_is_cut_says_so(record):
    name = "blocks.7.attention.projection.output.weight"
    found = [Finding(kind, "error", 3, (name,), "") for kind in ("exploding_gradient", "nonfinite_gradient")]
    with open_run(record(np.full((9, 2), np.nan), {}, found)) as run:
        lines = lines_of(run, 50, 15)
    assert lines[2].rstrip().endswith(" …")
