"""Data parallel training, one process a rank, as torchrun starts them."""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
torch.set_num_threads(1)
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
model = DistributedDataParallel(net)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
torch.manual_seed(rank)
for step in range(12 if "RUIN" in os.environ else 6):
    if step == 3 and rank == 1 and "RUIN" in os.environ:
        net[0].weight.data[0, 0] = float("nan")
    x = torch.randn(8, 4)
    if step == 3 and rank == 1 and "POISON" in os.environ:
        x[0, 0] = float("nan")
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
total = sum(p.double().sum().item() for p in model.parameters())
for turn in range(dist.get_world_size()):
    if turn == rank:
        print(f"rank {rank} weights {total}", flush=True)
    dist.barrier()
dist.destroy_process_group()
