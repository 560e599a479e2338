"""Compiled, checkpointed and accumulating trainings are guarded as plain ones: a part of `benchmarks.compiled`.

Each way of compiling meets each moment of attaching (a whole step, which takes longest, only one), and both of these
every kind of checkpointing and accumulation at least once; all combinations are the benchmark's.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from benchmarks.compiled import RIGHT, judged
from benchmarks.compiled_trainings import (
    ACCUMULATED,
    ATTACHED,
    CHECKPOINTED,
    COMPILED,
    FAULTS,
    Case,
    Training,
    stream,
)
from tests.monitor.workloads import attach

from steadygrad.tracing.capture import UNHEARD

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
HEARD = {"nothing", "model", "step", "model and step"}
CASES = [
    Case(compiled, attached, CHECKPOINTED[(i + j) % 3], ACCUMULATED[(i + j // 2) % 2], "eager")
    for (i, compiled), (j, attached) in itertools.product(enumerate(COMPILED), enumerate(ATTACHED))
    if compiled != "whole step" or attached == "before"
]
INDUCTOR = [
    Case("model", "before", "non-reentrant", 4, "inductor"),
    Case("model in place", "after", "no", 1, "inductor"),
]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch._dynamo.reset()


@pytest.mark.parametrize("case", [*CASES, *INDUCTOR], ids=str)
def test_every_step_is_seen_judged_and_explained(case):
    found = judged(case)
    assert [name for name in RIGHT if not found[name]] == []
    # Inside of compiled code no hook is heard: then that is what is said.
    assert found["named" if case.compiled in HEARD else "unknown"] == len(FAULTS)


def test_what_was_heard_before_a_model_was_compiled_in_place_is_not_replayed_for_it():
    training = Training(Case("nothing", "before"), lambda *about: attach("guard", *about))
    steps = stream(1, "forward")
    training.run(steps[:2])
    training.net.compile(backend="eager")
    training.run(steps[2:])
    (told,) = [one.summary for one in training.monitor.findings if one.kind.startswith("nonfinite")]
    assert UNHEARD in told
