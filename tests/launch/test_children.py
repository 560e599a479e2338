"""Processes that the script starts, and that train."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_that_train_have_a_run_each_and_are_guarded(launched, method):
    ended = launched("hogwild.py", "--guard", args=[method])
    assert ended.out == "ended [0, 0]\nfinite [True, True]\n"
    runs = {Path(run.path).stem: run for run in ended.runs}
    assert set(runs) == {
        "hogwild.process1",
        "hogwild.process2",
        "hogwild.process3",
        "hogwild.process3-2",
    }
    assert [len(run.steps) for run in runs.values()] == [10] * 4
    assert all(run.finished for run in runs.values())
    assert [int(run.skipped.sum()) for _, run in sorted(runs.items())] == [0, 0, 0, 1]
    assert "guarded 40 steps of 4 models" in ended.closing
    assert "1 skipped" in ended.closing
    assert "nonfinite_input at step 6" in ended.closing


def test_a_child_that_trains_nothing_leaves_nothing(launched, write):
    script = write(
        "import os, torch\n"
        "from multiprocessing import get_context\n"
        "def work():\n"
        "    x = torch.ones(2, requires_grad=True)\n"
        "    x.sum().backward()\n"
        "if __name__ == '__main__':\n"
        "    for method in ('fork', 'spawn'):\n"
        "        child = get_context(method).Process(target=work)\n"
        "        child.start()\n"
        "        child.join()\n"
        "        print(child.exitcode)\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        work()\n"
        "        raise SystemExit(3)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    ended = launched(script)
    assert ended.out == "0\n0\n3\n"
    assert not ended.runs
    assert len(ended.err.splitlines()) == 1, ended.err
