"""How much memory could be taken now."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def free_bytes(device: torch.device | None = None) -> float:
    """Memory of a device that is free, by default of the host; ``inf`` where the system doesn't say.

    On the host the page cache counts as free, on an accelerator what torch has reserved and not handed out.
    """
    if device is None or device.type == "cpu":
        return _free_on_host()
    if device.type != "cuda":
        return float("inf")
    free, _ = torch.cuda.mem_get_info(device)
    return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def _free_on_host() -> float:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024.0
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, AttributeError):
        return float("inf")
