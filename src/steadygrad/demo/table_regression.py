"""A small regression on scikit-learn's diabetes table, with a few cells gone wrong.

Shape legend: N patients, D = 10 measurements of each.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import RobustScaler
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import SGD, Optimizer

from steadygrad.demo.workload import Batch, Workload, generator

MISSING = 2.0**127
"""How Stata stores a missing float (1.7e38); readers that don't decode it pass it on as a number."""
MISSING_CELLS = 3
WRONG_UNIT = 1000.0
WRONG_UNIT_CELLS = 10
BLOOD_VALUES = range(4, 10)
HIDDEN = 32
LEARNING_RATE = 1e-2
MOMENTUM = 0.9
PATIENTS = 16
HELD_OUT = 100


class TableRegression(Workload):
    """Predict the progress of the disease from ten measurements, some of them entered wrongly.

    Three cells hold a missing-value code that nobody decoded, ten a value in the wrong unit. The
    columns are scaled by median and quartiles, as is right for data with outliers, so all other
    rows are in order, and so are the held-out ones.

    Args:
        seed: chooses the faulty cells.
        quick: train for a few epochs only.
    """

    key = "table"
    title = "small regression, diabetes table"
    setting = (
        f"an MLP of 10-{HIDDEN}-{HIDDEN}-1, SGD at {LEARNING_RATE:g} with momentum {MOMENTUM:g}, inputs scaled by "
        f"RobustScaler; {MISSING_CELLS} cells hold a missing-value code that nobody decoded, {WRONG_UNIT_CELLS} are "
        f"{WRONG_UNIT:,.0f} times too large (wrong unit)."
    )
    unit = "variance of the target"

    def __init__(self, seed: int, *, quick: bool = False) -> None:
        table = load_diabetes(scaled=False)
        mix = np.random.default_rng(0).permutation(len(table.target))
        rows, progress = table.data[mix], table.target[mix]
        train_rows = spoil(rows[:-HELD_OUT], np.random.default_rng(seed))
        scaler = RobustScaler().fit(train_rows)
        center, spread = progress[:-HELD_OUT].mean(), progress.std()
        targets = _as_tensor((progress - center) / spread)[:, None]
        self._training = _as_tensor(scaler.transform(train_rows)), targets[:-HELD_OUT]
        self._held_out = _as_tensor(scaler.transform(rows[-HELD_OUT:])), targets[-HELD_OUT:]
        self._epochs = 5 if quick else 40
        self.steps = self._epochs * -(-len(train_rows) // PATIENTS)
        self.guess = float(targets[-HELD_OUT:].square().mean())

    def build_model(self) -> nn.Module:
        """Two hidden layers with PyTorch's default initialisation."""
        return nn.Sequential(
            nn.Linear(10, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)
        )

    def build_optimizer(self, model: nn.Module) -> Optimizer:
        """Momentum at the usual rate."""
        return SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def batches(self, seed: int) -> Iterator[Batch]:
        """Measurements ``[N, D]`` and targets ``[N, 1]``, every patient once in an epoch."""
        order = generator(seed)
        inputs, targets = self._training
        for _ in range(self._epochs):
            mixed = torch.randperm(len(targets), generator=order)
            for start in range(0, len(mixed), PATIENTS):
                chosen = mixed[start : start + PATIENTS]
                yield inputs[chosen], targets[chosen]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error."""
        inputs, targets = batch
        return mse_loss(model(inputs), targets)

    def held_out_loss(self, model: nn.Module) -> float:
        """Mean squared error of the held-out patients, whose cells are all in order."""
        return float(self.loss(model, self._held_out))


def spoil(rows: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A copy of ``rows`` ``[N, D]`` with missing-value codes and wrong units in its blood values."""
    spoilt: NDArray[np.float64] = rows.copy()
    chosen = rng.choice(len(rows), MISSING_CELLS + WRONG_UNIT_CELLS, replace=False)
    columns = rng.choice(BLOOD_VALUES, len(chosen))
    missing = slice(0, MISSING_CELLS)
    spoilt[chosen[missing], columns[missing]] = MISSING
    spoilt[chosen[MISSING_CELLS:], columns[MISSING_CELLS:]] *= WRONG_UNIT
    return spoilt


def _as_tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)
