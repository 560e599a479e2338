"""Real torchrun, two ranks over gloo: steadygrad inside, one run file a rank."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from steadygrad import open_run

SCRIPT = Path(__file__).parent / "scripts" / "ddp.py"


@pytest.fixture
def torchrun(tmp_path):
    """``torchrun("-m", "steadygrad", "run", ...)``: stdout by rank, stderr, run files by rank."""

    def start(*words, **env):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        done = subprocess.run(
            [sys.executable, *launcher, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        )
        assert done.returncode == 0, done.stderr
        runs = [open_run(path) for path in sorted((tmp_path / "steadygrad-runs").glob("*.steady"))]
        ours = [line for line in done.stderr.splitlines() if line.startswith("steadygrad:")]
        return sorted(done.stdout.splitlines()), ours, runs

    return start


@pytest.mark.slow
def test_each_rank_has_its_run_and_all_leave_out_the_step_that_one_has_poisoned(torchrun):
    out, said, runs = torchrun("-m", "steadygrad", "run", "--guard", str(SCRIPT), POISON="1")
    files = [(Path(run.path).name, run.info.rank, run.info.world_size, len(run.steps)) for run in runs]
    assert files == [
        ("ddp.rank0.steady", 0, 2, 6),
        ("ddp.rank1.steady", 1, 2, 6),
    ]
    assert [tensor.name for tensor in runs[0].info.tensors] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    np.testing.assert_array_equal(runs[0].total_norm, runs[1].total_norm)
    # Each rank has a loss of its own, and the gradient that all share.
    assert not np.array_equal(runs[0].loss, runs[1].loss)
    assert said[-1].startswith("steadygrad: guarded 6 steps of Sequential (1 skipped), nonfinite_")
    assert said[-1].count("ddp.rank0.steady") == 2
    assert [np.flatnonzero(run.skipped).tolist() for run in runs] == [[3], [3]]
    weights = {line.split()[-1] for line in out}
    assert len(weights) == 1
    assert "nan" not in weights


@pytest.mark.slow
def test_an_unmodified_script_goes_back_on_both_ranks_when_the_weights_of_one_are_ruined(torchrun):
    out, said, runs = torchrun("-m", "steadygrad", "run", "--guard", str(SCRIPT), RUIN="1")
    done = [[(one.step, one.reason) for one in run.incidents if one.action == "rollback"] for run in runs]
    assert done[0] == done[1]
    assert "non-finite parameters in 0.weight (rank 1): back to the state of step" in done[0][0][1]
    assert any("Rank 1 alone of 2 brought it at step 3" in line for line in said)
    weights = {line.split()[-1] for line in out}
    assert len(weights) == 1
    assert "nan" not in weights
