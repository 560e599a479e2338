"""A sweep of learning rates on all cores: a trial that is ill says why, and is stopped early."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

import steadygrad as sg

RUNS = Path("sweep")
STEPS = 150
HOPELESS = {
    "divergence",
    "learning_rate_too_high",
    "nonfinite_gradient",
    "nonfinite_parameter",
    "stalled_update",
}


def trial(lr: float) -> tuple[float, float, int, str]:
    """Train at one rate: rate, last loss, steps made, and why it was stopped."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    why, loss = "", torch.tensor(0.0)
    with sg.watch(model, optimizer, run=RUNS / f"lr{lr:g}.steady") as watch:
        for _ in range(STEPS):
            rows = torch.randint(len(images), (64,))
            loss = F.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.log(loss=loss)
            ill = [one for one in watch.findings if one.kind in HOPELESS and one.severity != "info"]
            if ill:
                why = f"{ill[0].kind} at step {ill[0].step}"
                break
    return lr, loss.item(), watch.counts.steps, why


if __name__ == "__main__":
    RUNS.mkdir(exist_ok=True)
    rates = [1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        trials = list(pool.map(trial, rates))
    for lr, loss, steps, why in trials:
        print(f"lr {lr:<6g} loss {loss:<10.3g} {steps:>4} steps  {why or 'to the end'}")
    sound = [one for one in trials if not one[3]]
    print(
        f"stopped early: {len(trials) - len(sound)} of {len(trials)}; best rate {min(sound, key=lambda one: one[1])[0]:g}"
    )
    print(f"next: steadygrad runs {RUNS} --ill")
