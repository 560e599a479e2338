"""Processes that train one model in shared memory, or a pool of workers that train one each."""

import sys

import torch
from torch import multiprocessing, nn


def train(seed, model):
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(10):
        batch = torch.randn(8, 4)
        if seed == 1 and step == 6:
            batch[0, 0] = float("nan")
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()


def own(seed):
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    train(seed, model)
    return all(bool(torch.isfinite(p).all()) for p in model.parameters())


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    shared = nn.Linear(4, 1).share_memory()
    processes = [context.Process(target=train, args=(seed, shared)) for seed in (0, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print("ended", [process.exitcode for process in processes])
    with context.Pool(1) as pool:
        print("finite", pool.map(own, [0, 1]), flush=True)
        pool.close()
        pool.join()
