"""How much memory could be taken now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_V2 = ("memory.max", "memory.current", ("inactive_file", "active_file"))
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))


def free_bytes(device: torch.device | None = None) -> float:
    """Memory of a device that is free, by default of the host; ``inf`` where the system doesn't say.

    On the host the page cache counts as free, on an accelerator what torch has reserved and not handed out. In a
    container no more than that may still take is free.
    """
    if device is None or device.type == "cpu":
        return min(_free_on_host(), _left_to_groups())
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


def _left_to_groups() -> float:
    """What the control groups of this process let it take; those above hold its own within their limits."""
    return min(map(_left_to, _folders()), default=float("inf"))


def _folders() -> Iterator[tuple[Path, tuple[str, str, tuple[str, ...]]]]:
    """Folders of its memory groups and of those above, as far up as they can be seen, with the names of their files."""
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if number == "0" and not controllers:
            root, files = _GROUPS, _V2
        elif "memory" in controllers.split(","):
            root, files = _GROUPS / "memory", _V1
        else:
            continue
        # Seen from inside a container the path may be the machine's, of which only the top is there.
        own = root / path.lstrip("/")
        yield from ((folder, files) for folder in (own, *own.parents) if folder.is_relative_to(root))


def _left_to(group: tuple[Path, tuple[str, str, tuple[str, ...]]]) -> float:
    folder, (limit, usage, caches) = group
    try:
        allowed = float((folder / limit).read_text(encoding="ascii"))  # "max" is no number
        used = float((folder / usage).read_text(encoding="ascii"))
        fields = (line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        cached = sum(float(value) for name, value in fields if name in caches)
    except (OSError, ValueError):
        return float("inf")
    return max(0.0, allowed - used + cached)
