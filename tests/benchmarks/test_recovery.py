from __future__ import annotations

import math

import pytest
import torch
from benchmarks.recovery.__main__ import cells_of
from benchmarks.recovery.injections import injections
from benchmarks.recovery.store import Cell, fill, load
from benchmarks.recovery.tables import recovered_after, row_of
from benchmarks.recovery.trainings import STEPS, rate_at, trainings
from benchmarks.recovery.trial import AFTER, Result, run

TRAININGS, FAULTS = trainings(), injections()


def made(name):
    torch.manual_seed(0)
    model = TRAININGS[name].build()
    optimizer = TRAININGS[name].optimizer(model)
    batch = next(TRAININGS[name].batches(torch.Generator().manual_seed(0)))
    TRAININGS[name].loss(model, batch).backward()
    optimizer.step()
    return model, optimizer, batch


def everything(model, optimizer):
    moments = [
        one for state in optimizer.state.values() for one in state.values() if isinstance(one, torch.Tensor)
    ]
    return torch.cat([one.detach().double().reshape(-1) for one in [*model.state_dict().values(), *moments]])


@pytest.mark.parametrize("name", ["digits_cnn_adamw", "text_gru_sgd", "table_norm_sgd"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_changes_what_it_says_and_nothing_else(name, fault):
    model, optimizer, batch = made(name)
    chance = torch.Generator().manual_seed(1)
    if not fault.fits(model, optimizer):
        return
    before = everything(model, optimizer)
    fault.state(model, optimizer, chance)
    now = everything(model, optimizer)
    changed = int((~((before == now) | (before.isnan() & now.isnan()))).sum())
    inputs, targets = fault.batch(batch, chance) if fault.batches else batch
    is_same = torch.equal(inputs, batch[0]) and torch.equal(targets, batch[1])
    if "bit" in fault.name:
        assert changed == 1
    elif "statistics" in fault.name:
        assert changed > 1
    else:
        assert changed == 0
    letters = not inputs.is_floating_point() and fault.name in {"NaN batch", "Inf batch"}
    assert is_same == (fault.name not in {"NaN batch", "Inf batch", "label burst"} or letters)


def test_the_rate_rises_and_falls_to_next_to_nothing():
    rates = [rate_at(step) for step in range(STEPS)]
    assert rates[0] < max(rates)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)


def test_letters_are_never_nan():
    cells = cells_of(["text_gru_adam"], list(FAULTS), ("guard",), (5,), (0,))
    assert not {cell.fault for cell in cells} & {"NaN batch", "Inf batch", "NaN statistics"}


def test_a_guard_without_a_fault_is_the_twin_and_with_one_comes_back():
    training = TRAININGS["digits_mlp_sgd"]
    twin = run(training, "plain", None, 100, 3)
    assert run(training, "guard", None, 100, 3) == twin
    plain, guarded = (run(training, one, FAULTS["NaN batch"], 100, 3) for one in ("plain", "guard"))
    assert plain.final == math.inf
    assert recovered_after(plain, twin) is None
    assert recovered_after(guarded, twin) is not None


def result(level, final):
    return Result(0.5, (level,) * len(AFTER), final)


@pytest.mark.parametrize(
    ("after", "steps"),
    [
        ((9.0, 0.5, 9.0, 9.0, 9.0), AFTER[1]),
        ((math.inf,) * 5, None),
        ((9.0, 9.0, 9.0, 9.0, 0.524), AFTER[4]),
        ((0.53,) * 5, None),
    ],
)
def test_recovery_is_being_as_good_as_when_the_fault_struck(after, steps):
    assert recovered_after(Result(0.5, after, 1.0), result(0.4, 1.0)) == steps


def test_trainings_are_put_together_beside_their_twins():
    cells = [Cell("table_mlp_sgd", "guard", "weight bit", 5, seed) for seed in range(3)]
    results = {cell.key: result(0.4, final) for cell, final in zip(cells, (1.0, 2.0, math.inf), strict=True)}
    results |= {Cell("table_mlp_sgd", "plain", "", 5, seed).key: result(0.4, 1.0) for seed in range(3)}
    row = row_of(results, cells)
    assert (row.count, row.recovered, row.near) == (3, 1.0, pytest.approx(1 / 3))
    assert row.ratio == pytest.approx(math.sqrt(2.0))
    assert row.lost == pytest.approx(1 / 3)


def test_what_is_measured_is_not_measured_again(tmp_path):
    path = tmp_path / "found.jsonl"
    cell = Cell("table_mlp_sgd", "plain", "", 5, 0)
    first = fill([cell], path, 1)
    assert load(path) == first
    assert fill([cell], path, 1) == first
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1
