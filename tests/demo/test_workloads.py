from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from steadygrad.demo import digits_cnn, table_regression
from steadygrad.demo.digits_cnn import DigitsCNN
from steadygrad.demo.table_regression import MISSING, MISSING_CELLS, WRONG_UNIT_CELLS, TableRegression, spoil
from steadygrad.demo.text_rnn import LETTERS, SEQUENCES, TextRNN

WORKLOADS = {
    "text": lambda: TextRNN(quick=True),
    "digits": lambda: DigitsCNN(quick=True),
    "table": lambda: TableRegression(0, quick=True),
}


@pytest.fixture(params=WORKLOADS, scope="module")
def workload(request):
    return WORKLOADS[request.param]()


def test_batches_are_as_many_as_promised(workload):
    assert sum(1 for _ in workload.batches(0)) == workload.steps


def test_same_seed_gives_the_same_batches_and_another_seed_others(workload):
    first, same, other = (next(workload.batches(seed)) for seed in (1, 1, 2))
    assert all(map(torch.equal, first, same))
    assert not torch.equal(first[0], other[0])


def test_untrained_network_is_no_better_than_a_constant_guess(workload):
    torch.manual_seed(0)
    with torch.no_grad():
        assert workload.held_out_loss(workload.build_model()) > 0.99 * workload.guess


def test_optimizer_holds_every_parameter_of_the_model(workload):
    model = workload.build_model()
    held = workload.build_optimizer(model).param_groups[0]["params"]
    assert {id(param) for param in held} == {id(param) for param in model.parameters()}


def test_text_targets_are_the_letters_one_place_later():
    workload = TextRNN(quick=True)
    letters, following = next(workload.batches(0))
    assert letters.shape == following.shape == (SEQUENCES, LETTERS)
    assert torch.equal(letters[:, 1:], following[:, :-1])


def test_text_loss_is_a_sum_over_letters():
    workload = TextRNN(quick=True)
    model, batch = workload.build_model(), next(workload.batches(0))
    scores = model(batch[0]).detach().double().log_softmax(-1)
    slow = -sum(float(scores[n, t, int(batch[1][n, t])]) for n in range(SEQUENCES) for t in range(LETTERS))
    assert float(workload.loss(model, batch).detach()) == pytest.approx(slow, rel=1e-4)


def test_text_guess_is_worse_than_what_a_peek_at_the_held_out_letters_allows():
    workload = TextRNN(quick=True)
    _, letters = workload._held_out
    share = torch.bincount(letters.flatten()).double() / letters.numel()
    entropy = -float((share[share > 0] * share[share > 0].log()).sum())
    assert entropy - 0.05 < workload.guess < entropy + 0.3


def test_digits_network_is_as_deep_and_as_badly_drawn_as_told():
    torch.manual_seed(0)
    layers = [
        layer for layer in DigitsCNN(quick=True).build_model().modules() if isinstance(layer, nn.Conv2d)
    ]
    assert len(layers) == digits_cnn.DEPTH
    for layer in layers[1:]:
        he = math.sqrt(2 / layer.weight[0].numel())
        assert float(layer.weight.detach().std()) / he == pytest.approx(math.sqrt(3), rel=0.1)
    assert "1.7 times too strong" in DigitsCNN.setting


def test_digits_held_out_images_are_never_trained_on():
    workload = DigitsCNN(quick=True)
    training = {image.numpy().tobytes() for image in workload._training[0]}
    held_out = [image.numpy().tobytes() for image in workload._held_out[0]]
    assert not training.intersection(held_out)


def test_accuracy_of_a_ruined_network_is_zero():
    workload = DigitsCNN(quick=True)
    model = workload.build_model()
    nn.init.constant_(model.head.weight, math.nan)
    with torch.no_grad():
        assert workload.accuracy(model) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_spoil_changes_exactly_the_promised_cells_of_a_copy(seed):
    rows = np.random.default_rng(0).uniform(1, 2, (342, 10))
    spoilt = spoil(rows, np.random.default_rng(seed))
    changed = np.argwhere(spoilt != rows)
    assert len(changed) == MISSING_CELLS + WRONG_UNIT_CELLS
    assert len(set(changed[:, 0])) == len(changed)
    assert (spoilt == MISSING).sum() == MISSING_CELLS
    assert set(changed[:, 1]) <= set(table_regression.BLOOD_VALUES)
    assert rows.max() < 2


def test_table_inputs_are_finite_in_spite_of_the_codes_and_held_out_rows_in_order():
    workload = TableRegression(0, quick=True)
    inputs, held_out = workload._training[0], workload._held_out[0]
    assert inputs.isfinite().all()
    assert int((inputs.abs() > 1e30).sum()) == MISSING_CELLS
    assert int((inputs.abs() > 100).sum()) == MISSING_CELLS + WRONG_UNIT_CELLS
    assert held_out.abs().max() < 10


def test_table_epoch_shows_every_patient_once():
    workload = TableRegression(0, quick=True)
    inputs, _ = workload._training
    per_epoch = workload.steps // 5
    shown = torch.cat([batch for batch, _ in workload.batches(0)][:per_epoch])
    assert torch.equal(shown.sort(dim=0).values, inputs.sort(dim=0).values)
