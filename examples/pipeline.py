"""Two pipeline stages on two ranks: each knows the norms of both, and a broken step is left out by both."""

import math

import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

import steadygrad as sg

WIDTH, ROWS, STEPS = 16, 32, 60


def stages() -> tuple[nn.Module, nn.Module]:
    """Both stages, with the same weights wherever they are made."""
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(8, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    last = nn.Sequential(nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
    return first, last


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and targets of a step."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(ROWS, 8, generator=generator)
    if step == 40:  # a broken file, as they come
        x[3, 0] = math.nan
    return x, x.square().mean(1, keepdim=True)


def train(rank: int, store: str) -> None:
    """One rank's side."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    stage = stages()[rank]
    optimizer = torch.optim.AdamW(stage.parameters(), lr=1e-2)
    # Nobody else has the weights of this stage; with data parallel stages it would be their process group.
    guard = sg.guard(stage, optimizer, run=f"pipeline.{rank}.steady", replica_groups={"*": [rank]})
    schedule = ScheduleGPipe(
        PipelineStage(stage, rank, 2, torch.device("cpu")), n_microbatches=4, loss_fn=nn.functional.mse_loss
    )
    for step in range(STEPS):
        x, y = batch(step)
        optimizer.zero_grad()
        losses = []
        if rank == 0:
            schedule.step(x)
        else:
            schedule.step(target=y, losses=losses)
            guard.log(loss=torch.stack(losses).detach().mean())
        optimizer.step()
    if rank == 0:
        print(
            f"rank 0 measures {len(guard.last.norms)} tensors of both stages, {guard.last.total_norm:.3g} in all"
        )
        print(guard.summary())
    guard.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(train, (f"{folder}/store",), nprocs=2)
