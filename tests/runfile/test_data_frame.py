from __future__ import annotations

import csv
import math
import subprocess
import sys

import numpy as np
import pytest

from steadygrad.records import TensorInfo
from steadygrad.report import write_csv
from steadygrad.runfile import UnknownName, open_run


@pytest.fixture
def run(record):
    norms = np.arange(1.0, 25.0).reshape(8, 3)
    norms[3, 1] = np.nan
    norms[4, 2] = np.inf
    changes = {2: {"skipped": True, "loss": math.nan}, 5: {"loss": 2.5, "clip_coef": 0.5, "cap": 4.0}}
    return open_run(record(norms, changes))


def test_the_table_says_what_export_writes(run, tmp_path):
    table = run.to_pandas()
    with (tmp_path / "a.csv").open("w", newline="") as file:
        write_csv(run, file)
    with (tmp_path / "a.csv").open(newline="") as file:
        heads, *rows = csv.reader(file)
    assert [table.index.name, *table.columns] == heads
    truth = np.array(
        [[float({"True": 1, "False": 0}.get(cell, cell or "nan")) for cell in row] for row in rows]
    )
    assert np.allclose(table.reset_index().astype(float).to_numpy(), truth, rtol=1e-6, equal_nan=True)


def test_each_column_is_the_array_of_the_run(run):
    table = run.to_pandas()
    assert table.index.tolist() == list(range(8))
    for name in ("total_norm", "cap", "loss", "skipped", "optimizer"):
        assert np.array_equal(
            table[name], getattr(run, name), equal_nan=name in {"total_norm", "cap", "loss"}
        )
    for tensor in run.info.tensors:
        assert np.array_equal(table[f"grad_norm/{tensor.name}"], run.norms(tensor.name), equal_nan=True)


def test_only_the_tensors_that_are_asked_for(run):
    one = run.to_pandas(["layers.1.weight"])
    assert [name for name in one.columns if name.startswith("grad_norm/")] == ["grad_norm/layers.1.weight"]
    assert not any(name.startswith("grad_norm/") for name in run.to_pandas(()).columns)
    with pytest.raises(UnknownName, match=r"layers\.9\.weight"):
        run.to_pandas(["layers.9.weight"])


def test_a_run_without_steps_has_the_columns_all_the_same(record):
    table = open_run(record(np.zeros((0, 2)))).to_pandas()
    assert table.shape == (0, 12)


def test_tensors_of_one_name_keep_a_column_each(record):
    table = open_run(record(np.ones((2, 2)), tensors=(TensorInfo("w"), TensorInfo("w")))).to_pandas()
    assert list(table.columns[-2:]) == ["grad_norm/w", "grad_norm/w#1"]


def test_without_pandas_it_says_how_to_get_it(run):
    """In a process that can't find pandas: its distribution and its module are hidden."""
    code = f"""
import importlib.metadata, sys
class Hidden(importlib.metadata.DistributionFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError(name)
    def find_distributions(self, context):
        if context.name == "pandas":
            raise importlib.metadata.PackageNotFoundError("pandas")
        return []
sys.meta_path.insert(0, Hidden())
from steadygrad.errors import FrameworkMissing
from steadygrad.runfile import open_run
try:
    open_run({run.path!r}).to_pandas()
except FrameworkMissing as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pandas 2.0 or newer is needed" in done.stdout
    assert 'pip install "steadygrad[pandas]"' in done.stdout


def test_a_run_shows_itself_in_a_notebook(record):
    from steadygrad.records import Finding

    evil = "</script><img src=x onerror=alert(1)>"
    found = [Finding("loss_spike", "error", step, (evil,), f"{evil} {step}") for step in range(9)]
    changes = {1: {"skipped": True}, 2: {"clip_coef": 0.5, "loss": 3.0}}
    page = open_run(record([[3.0], [4.0], [math.nan]], changes, found, model=evil))._repr_html_()
    assert "<b>first</b>" in page
    assert "<img" not in page
    assert "&lt;img" in page
    assert "1 scaled down, 1 skipped, 1 non-finite" in page
    assert page.index("step 8, error") < page.index("step 3, error")
    assert "and 3 before" in page


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ([2.0, 1.0], "2 first, 1 last"),
        ([2.0, math.nan], "2 first, not finite last"),
        ([math.inf] * 2, "never finite"),
    ],
)
def test_a_loss_that_ended_broken_is_shown_as_such(record, losses, told):
    changes = {step: {"loss": loss} for step, loss in enumerate(losses)}
    page = open_run(record([[3.0], [4.0]], changes))._repr_html_()
    assert f"<dd>{told}</dd>" in page
    assert "<dd>2, finished</dd>" in page


@pytest.mark.parametrize("norms", [np.zeros((0, 2)), np.full((3, 2), np.nan), np.full((3, 2), np.inf)])
def test_a_run_of_nothing_finite_shows_itself(record, norms):
    assert "no findings" in open_run(record(norms))._repr_html_()
