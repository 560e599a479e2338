"""Mixed precision as in the recipes: autocast, GradScaler, unscale, clip, step, update."""

import sys

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
device = "cuda" if torch.cuda.is_available() and "--scale" not in sys.argv else "cpu"
use_amp = device == "cuda" or "--scale" in sys.argv
net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1)).to(device)
opt = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
# The first scale overflows in float32's range, as 2**16 does in float16's.
scaler = torch.amp.GradScaler(device, enabled=use_amp, init_scale=2.0**127, backoff_factor=2.0**-60)
accumulate = 2
for step in range(16):
    inputs = 3 * torch.randn(8, 6, device=device)
    target = inputs.sum(1, keepdim=True)
    with torch.autocast(device_type=device, dtype=torch.bfloat16, enabled=use_amp):
        loss = nn.functional.mse_loss(net(inputs).float(), target) / accumulate
    scaler.scale(loss).backward()
    if (step + 1) % accumulate == 0:
        if "--no-clip" not in sys.argv:
            scaler.unscale_(opt)
            torch.nn.utils.clip_grad_norm_(net.parameters(), max_norm=1.0)
        scaler.step(opt)
        scaler.update()
        opt.zero_grad(set_to_none=True)
    print(f"loss {loss.item():.6f}")
print("weights", sum(p.double().sum().item() for p in net.parameters()))
