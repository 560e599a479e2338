"""The whole matrix of injected faults: operation, module, line and phase, all four."""

from __future__ import annotations

import pytest
import torch
from benchmarks.origins.cases import answer, cases
from benchmarks.origins.faults import LEGAL
from benchmarks.origins.models import MODELS, Faulty

from steadygrad.tracing import trace


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_the_origin_is_exact(case):
    assert answer(case).exact


@pytest.mark.parametrize("function", LEGAL, ids=lambda function: function.__name__)
@pytest.mark.parametrize("name", MODELS)
def test_legal_infinities_are_not_blamed(name, function):
    torch.manual_seed(0)
    model, batch, loss_fn, _ = MODELS[name](Faulty(function))
    assert trace(model, batch, loss_fn) is None


def test_the_matrix_is_large_enough_to_mean_something():
    assert len(list(cases())) >= 300
