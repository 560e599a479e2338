"""A data loader with spawned workers, which import this file again."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

print("imported as", __name__, flush=True) if __name__ != "__mp_main__" else None


class Squares(Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, index):
        armed = any("steadygrad" in type(one).__module__ for one in __import__("sys").meta_path)
        x = torch.full((3,), index / 24)
        return x, x.square().sum(), torch.tensor(float(armed)), torch.tensor(os.getpid())


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for method in ("spawn", "fork"):
        loader = DataLoader(Squares(), batch_size=8, num_workers=1, multiprocessing_context=method)
        for x, y, armed, pid in loader:
            optimizer.zero_grad()
            loss = (model(x).squeeze(1) - y).square().mean()
            loss.backward()
            optimizer.step()
            print(
                f"{loss.item():.7f} armed {armed.max().item()} elsewhere {(pid != os.getpid()).all().item()}"
            )


if __name__ == "__main__":
    main()
