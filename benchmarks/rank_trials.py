"""One trial of `benchmarks/ranks.py`: a short training on several ranks, in which something happens to one of them."""

from __future__ import annotations

import atexit
import json
import math
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import steadygrad as sg

STEPS = 24
EVERY = 4
POISONED = ("nan batch", "inf gradient")
RUINED = ("ruined weight", "ruined moment")
FAULTS = ("none", "slow rank", "killed rank", *POISONED, *RUINED)


@dataclass(frozen=True)
class Case:
    """What happens, drawn from the seed.

    Attributes:
        fault: one of `FAULTS`.
        model: ``ddp`` or ``fsdp``.
        faulty: the rank.
        at: the step.
        where: for a kill the moment, for a number the number.
    """

    seed: int
    ranks: int
    fault: str
    model: str
    faulty: int
    at: int
    where: str


def draw(seed: int, ranks: int) -> Case:
    """The case of a seed."""
    dice = random.Random(seed)
    fault = dice.choice(FAULTS)
    # Which rank made an Inf in its backward pass is not to be seen once FSDP has added it up.
    model = "ddp" if fault == "inf gradient" else dice.choice(["ddp", "fsdp"])
    places = {
        "killed rank": ["before forward", "before step"] + ["while saving"] * (model == "fsdp"),
        "slow rank": ["before forward", "before step"],
        "ruined weight": ["nan", "1e30"],
    }
    where = dice.choice(places.get(fault, ["nan"]))
    return Case(seed, ranks, fault, model, dice.randrange(ranks), dice.randrange(2, 12), where)


def run(case: Case, rank: int, port: int, folder: Path) -> None:
    """One rank of a trial, in a process of its own that ends as a script does."""
    os.dup2(os.open(folder / f"{rank}.err", os.O_WRONLY | os.O_CREAT), 2)
    os.environ["STEADYGRAD_INCIDENTS_MB"] = "0"
    torch.set_num_threads(1)
    url = f"tcp://127.0.0.1:{port}"
    try:
        dist.init_process_group(
            "gloo", init_method=url, rank=rank, world_size=case.ranks, timeout=timedelta(seconds=20)
        )
        told = _train(case, rank, folder)
        (folder / f"{rank}.json").write_text(json.dumps(told), encoding="ascii")
        dist.barrier()
    except BaseException as error:  # noqa: BLE001 - as an interpreter shows it at its end
        traceback.print_exc()
        sys.last_value = error
    atexit._run_exitfuncs()  # noqa: SLF001 - a forked process doesn't
    sys.stderr.flush()
    os._exit(0)


def _train(case: Case, rank: int, folder: Path) -> dict[str, Any]:
    torch.manual_seed(case.seed)
    plain = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 1))
    model = DistributedDataParallel(plain) if case.model == "ddp" else fully_shard(plain)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    path = folder / f"{rank}.steady"
    guard = sg.guard(model, optimizer, recover=sg.recover.rollback(every=EVERY), run=path)
    generator = torch.Generator().manual_seed(case.seed * case.ranks + rank)
    for step in range(STEPS):
        hit = case if rank == case.faulty and step == case.at else None
        _step(model, optimizer, guard, generator, hit)
        if case.where == "while saving" and step == case.at:
            _save(guard, folder, hit)
    told = [(one.norms.tolist(), one.total_norm, one.clip_coef, one.skipped) for one in guard.recent]
    weights = [whole(one).tolist() for one in model.parameters()]
    guard.close()
    done = [(one.step, one.action, one.reason) for one in sg.open_run(path).incidents]
    return {
        "numbers": repr((told, weights, done)),
        "finite": bool(
            torch.isfinite(torch.cat([whole(one).reshape(-1) for one in model.parameters()])).all()
        ),
        "steps": len(told),
        "skipped": [step for step, one in enumerate(told) if one[-1]],
        "named": [
            one.evidence.get("guilty_rank") for one in guard.findings if one.kind.startswith("nonfinite")
        ],
        "rollbacks": [reason for _, action, reason in done if action == "rollback"],
    }


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    guard: Any,
    generator: torch.Generator,
    hit: Case | None,
) -> None:
    fault = "" if hit is None else hit.fault
    x = torch.randn(8, 8, generator=generator)
    if fault == "nan batch":
        x[3] = math.nan
    if hit is not None and hit.where == "before forward":
        _stumble(hit)
    optimizer.zero_grad()
    out = model(x)
    if fault == "inf gradient":
        out.register_hook(lambda grad: grad * math.inf)
    loss = out.square().mean()
    loss.backward()
    if hit is not None and hit.where == "before step":
        _stumble(hit)
    guard.log(loss=loss)
    optimizer.step()
    if hit is not None and fault in RUINED:
        _ruin(model, optimizer, hit)


def _stumble(case: Case) -> None:
    if case.fault == "killed rank":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1.0)


def _ruin(model: nn.Module, optimizer: torch.optim.Optimizer, case: Case) -> None:
    param = next(one for one in model.parameters() if own(one).numel() > 4)
    tensor = param if case.fault == "ruined weight" else optimizer.state[param]["exp_avg"]
    with torch.no_grad():
        own(tensor).view(-1)[1] = float(case.where)


def _save(guard: Any, folder: Path, hit: Case | None) -> None:
    from torch.distributed.checkpoint import FileSystemWriter  # noqa: PLC0415 - few trials need it

    guard.save(folder / "last")
    if hit is not None:
        FileSystemWriter.write_data = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    guard.save(folder / "last")


def own(tensor: Tensor) -> Tensor:
    """This rank's part."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor put together."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach()
