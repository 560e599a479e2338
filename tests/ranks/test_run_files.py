"""One run file a rank: who wrote it, and what that rank's own gradient was."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from tests.ranks.worlds import batches, own_rows, run_world, seeded, train_step
from torch.nn.parallel import DistributedDataParallel

import steadygrad as sg
from steadygrad.report.ranks import skew, told
from steadygrad.runfile.own_numbers import LOCAL_NORM
from steadygrad.runfile.rank_files import trainings_in

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
POISONED = 3


def _recorded(folder, rank):
    model = DistributedDataParallel(seeded())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with sg.guard(model, optimizer, run=folder / f"a.{rank}.steady") as guard:
        for step, batch in enumerate(batches()):
            x, y = own_rows(batch, rank, 2)
            if rank == 1:
                x = x * float("nan") if step == POISONED else x
            train_step(model, optimizer, (x, y), guard)


def test_each_rank_records_its_own_norm_before_reduction(tmp_path):
    run_world(partial(_recorded, tmp_path), 2)
    (group,), _ = trainings_in(tmp_path)
    runs = [sg.open_run(path) for path in group.paths.values()]
    assert [(run.info.rank, run.info.world_size) for run in runs] == [(0, 2), (1, 2)]
    steps, norms = zip(*(run.scalars(LOCAL_NORM) for run in runs), strict=True)
    assert steps[0].tolist() == steps[1].tolist() == list(range(len(batches())))
    assert np.isfinite(norms[0]).all()
    assert np.flatnonzero(~np.isfinite(norms[1])).tolist() == [POISONED]
    assert (norms[0] != norms[1]).all()
    assert skew(runs).label == "local norm"
    assert "Rank 1 brought" in " ".join(told(runs, skew(runs)))
