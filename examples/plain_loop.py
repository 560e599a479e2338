"""Your own loop: one line. A batch with a NaN in it costs one step; the loop goes on."""

import math

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

import steadygrad as sg

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
labels = torch.tensor(digits.target)

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
    nn.Flatten(), nn.Linear(16 * 64, 10),
)  # fmt: skip
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
guard = sg.guard(model, optimizer, run="plain_loop.steady")  # the only new line

for step in range(100):
    rows = torch.randint(len(images), (64,))
    batch = images[rows]
    if step == 40:  # a broken file, as they come
        batch[3, 0, 2, 2] = math.nan
    loss = F.cross_entropy(model(batch), labels[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    guard.log(loss=loss)

with torch.no_grad():
    accuracy = (model(images).argmax(1) == labels).float().mean()
print(f"accuracy {accuracy:.2f}")
print(guard.summary())
guard.close()
