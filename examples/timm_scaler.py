"""timm: the scaler of a training loop like its train.py's, with a guard in it."""

import math

import timm
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

import steadygrad as sg
from steadygrad.integrations.timm import NativeScaler

torch.manual_seed(0)
digits = load_digits()
images = F.interpolate(torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16, scale_factor=4)
labels = torch.tensor(digits.target)

model = timm.create_model("test_vit", num_classes=10, in_chans=1, img_size=32)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
guard = sg.guard(model, optimizer, run="timm.steady")
loss_scaler = NativeScaler(guard, device="cpu")  # instead of timm.utils.NativeScaler("cpu")

for step in range(30):
    rows = torch.randint(len(images), (16,))
    batch = images[rows]
    if step == 10:
        batch[0, 0, 0, 0] = math.nan
    loss = F.cross_entropy(model(batch), labels[rows])
    optimizer.zero_grad()
    loss_scaler(loss, optimizer, clip_grad=1.0, parameters=model.parameters())

print(f"norm of the last step, before the clip: {loss_scaler.norm:.2f}")
print(guard.summary())
guard.close()
