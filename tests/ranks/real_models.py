"""Small models of the kinds that people train, in float32 or float64, and how they are cut over ranks."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

WIDTH = 16
ROWS = 8


class TransformerBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)

    def forward(self, x):
        seen = self.first(x)
        x = x + self.attend(seen, seen, seen, need_weights=False)[0]
        return x + self.down(torch.relu(self.up(self.second(x))))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, WIDTH)
        self.blocks = nn.ModuleList([TransformerBlock(), TransformerBlock()])
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x):
        x = self.embed(x.unflatten(1, (-1, 4)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class ResidualBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = (nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        # Of the batch's own rows only: BatchNorm's mean over one rank's rows is another function.
        self.norm_one, self.norm_two = nn.GroupNorm(2, 8), nn.GroupNorm(2, 8)

    def forward(self, x):
        return torch.relu(x + self.norm_two(self.two(torch.relu(self.norm_one(self.one(x))))))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.blocks = nn.ModuleList([ResidualBlock(), ResidualBlock()])
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 1)

    def forward(self, x):
        x = self.stem(x.unflatten(1, (1, 4, 4)))
        for block in self.blocks:
            x = block(x)
        return self.down(torch.relu(self.up(x.mean((2, 3)))))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, WIDTH, num_layers=2, batch_first=True)
        self.up, self.down = nn.Linear(WIDTH, 16), nn.Linear(16, 1)

    def forward(self, x):
        return self.down(torch.relu(self.up(self.lstm(x.unflatten(1, (-1, 4)))[0][:, -1])))


MODELS = (Transformer, ResNet, Lstm)


def made(make, dtype):
    torch.manual_seed(0)
    return make().to(dtype)


def batches(dtype, steps=4):
    generator = torch.Generator().manual_seed(1)
    stream = [
        (torch.randn(ROWS, 16, generator=generator), torch.randn(ROWS, 1, generator=generator))
        for _ in range(steps)
    ]
    return [(x.to(dtype), y.to(dtype)) for x, y in stream]


def replicated(make, dtype, rank, ranks):
    return DistributedDataParallel(made(make, dtype)), rank, ranks


def sharded(make, dtype, rank, ranks):
    model = made(make, dtype)
    _shard(model, init_device_mesh("cpu", (ranks,)))
    return model, rank, ranks


def tensor_parallel(make, dtype, rank, ranks):
    model = made(make, dtype)
    _cut(model, init_device_mesh("cpu", (ranks,)))
    return model, 0, 1


def both(make, dtype, rank, ranks):
    model = made(make, dtype)
    mesh = init_device_mesh("cpu", (ranks // 2, 2), mesh_dim_names=("dp", "tp"))
    _cut(model, mesh["tp"])
    _shard(model, mesh["dp"])
    return model, rank // 2, ranks // 2


def _shard(model, mesh):
    for block in getattr(model, "blocks", ()):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _cut(model, mesh):
    for one in model.modules():
        if hasattr(one, "up"):
            parallelize_module(one, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
