"""RESULTS.md holds what the benchmarks printed: each script replaces its own section."""

from __future__ import annotations

import platform
import re
from datetime import datetime, timezone
from pathlib import Path

import torch

RESULTS = Path(__file__).with_name("RESULTS.md")


def write_section(name: str, text: str) -> None:
    """Replace what stands between the markers of one section."""
    marker = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = RESULTS.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(marker[0]) + ".*?" + re.escape(marker[1]), re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(
            f"{RESULTS} has no section {marker[0]} ... {marker[1]}: add the two lines where it belongs."
        )
    block = f"{marker[0]}\n{text}\n{marker[1]}"
    RESULTS.write_text(pattern.sub(lambda _: block, page), encoding="utf-8")


def machine(threads: int) -> str:
    """Where and with what the numbers were taken, one line."""
    today = datetime.now(tz=timezone.utc).date()
    cores = f"{platform.machine()}, {threads} threads"
    return f"Measured {today} on a shared CPU machine ({cores}), torch {torch.__version__}."
