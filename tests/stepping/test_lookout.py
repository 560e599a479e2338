from __future__ import annotations

import gc
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import steadygrad as sg
from steadygrad.containment import Containment
from steadygrad.detect import Context, Panel
from steadygrad.policies.base import PUT_OFF
from steadygrad.records import Reading, TensorInfo
from steadygrad.stepping import at_exit, lookout
from steadygrad.stepping.arrears import is_plain
from steadygrad.stepping.lookout import AT_ONCE, Lookout

CONTEXT = Context((TensorInfo("a.weight", (4, 4)), TensorInfo("b.weight", (4, 4))))


def reading(step, total, **values):
    return Reading(step, np.array([total, 0.0]), total, **values)


def watching():
    found = []
    return Lookout(Panel(CONTEXT), Containment(pytest.fail), found.append), found


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([1.0, 1.1, 50.0, 1e4, 0.0, math.nan]), min_size=AT_ONCE, max_size=150))
def test_what_waits_is_found_all_the_same(totals):
    late, found = watching()
    panel, at_once = Panel(CONTEXT), []
    for step, total in enumerate(totals):
        one = reading(step, total, skipped=math.isnan(total))
        at_once += panel.observe(one)
        late.take(one, waits=is_plain(one))
        if not is_plain(one):
            assert [str(f) for f in found] == [str(f) for f in at_once]
    late.settle()
    assert [str(f) for f in found] == [str(f) for f in at_once]


def test_nothing_waits_for_more_than_a_few_steps():
    late, found = watching()
    for step in range(AT_ONCE + 1):
        late.take(reading(step, 1.0), waits=True)
    for step in range(AT_ONCE + 1, AT_ONCE + 1 + PUT_OFF):
        late.take(reading(step, 1e6), waits=True)
    assert found


def test_a_script_that_just_ends_loses_nothing():
    late, found = watching()
    for step in range(AT_ONCE + 2):
        late.take(reading(step, 1.0 if step <= AT_ONCE else 1e9), waits=True)
    assert not found
    at_exit._settle_all()
    assert found


def test_a_training_that_is_collected_loses_nothing(tmp_path):
    def train():
        torch.manual_seed(0)
        model = nn.Linear(4, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-12)
        sg.watch(model, optimizer, run=tmp_path / "a.steady")
        for step in range(AT_ONCE + 2):
            optimizer.zero_grad()
            factor = 1.0 if step <= AT_ONCE else 1e9
            (model(torch.ones(2, 4)).square().mean() * factor).backward()
            optimizer.step()

    train()
    gc.collect()
    deadline = time.monotonic() + 20.0
    while not sg.open_run(tmp_path / "a.steady").finished and time.monotonic() < deadline:
        time.sleep(0.05)
    run = sg.open_run(tmp_path / "a.steady")
    assert run.finished
    assert ("exploding_gradient", AT_ONCE + 1) in [(one.kind, one.step) for one in run.findings]


@pytest.mark.parametrize(
    "values", [{"skipped": True}, {"clip_coef": 0.5}, {"lr_factor": 0.5}, {"param_norms": np.ones(2)}]
)
def test_a_step_that_something_was_done_to_does_not_wait(values):
    assert not is_plain(reading(3, 1.0, **values))
    assert is_plain(reading(3, 1.0))
    assert not is_plain(reading(3, math.inf))


class Shampoo(torch.optim.SGD):
    """Hands preconditioned gradients on to SGD's step."""

    def step(self, closure=None):
        return super().step(closure)


class Renamed(torch.optim.SGD):
    pass


@pytest.mark.parametrize(("kind", "momentum"), [(torch.optim.SGD, 0.9), (Renamed, 0.9), (Shampoo, None)])
def test_a_step_of_ones_own_is_held_to_no_formula_of_torchs(kind, momentum):
    optimizer = kind(nn.Linear(2, 2).parameters(), lr=0.1, momentum=0.9)
    context = lookout.context_of(0, (), None, optimizer)
    assert (context.momentum, context.own_step) == (momentum, momentum is None)


def test_nor_is_it_to_a_bound():
    class Centred(torch.optim.Adam):
        def step(self, closure=None):
            return super().step(closure)

    params = list(nn.Linear(2, 2).parameters())
    assert lookout.context_of(0, (), None, torch.optim.Adam(params)).step_bound is not None
    assert lookout.context_of(0, (), None, Centred(params)).step_bound is None
