"""Which cases are run, and by how many processes."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from benchmarks.faults import faulty, healthy  # noqa: F401 - importing registers the cases
from benchmarks.faults.case import CASES, Case
from benchmarks.faults.run import Record, run
from benchmarks.faults.score import Answer

QUICK = 5
"""Of this many cases one is run with ``--quick``."""


def chosen(families: Iterable[str], names: Iterable[str], *, quick: bool) -> list[Case]:
    """The cases to run."""
    cases = [
        case
        for case in CASES
        if (not families or case.family in families) and (not names or case.name in names)
    ]
    return cases[::QUICK] if quick else cases


def answered(cases: list[Case], jobs: int, records: Path | None) -> Iterator[Answer]:
    """Run the cases, but for those whose records are there already."""
    done = _done(records)
    left = [case for case in cases if case.name not in done]
    by_name = {case.name: case for case in cases}
    yield from (Answer(case, done[case.name]) for case in cases if case.name in done)
    for record in _run_all([case.name for case in left], jobs):
        if records is not None:
            with records.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        yield Answer(by_name[record["name"]], record)


def one(name: str) -> Record:
    """Run one case; a process of its own calls it."""
    torch.set_num_threads(1)
    return run(next(case for case in CASES if case.name == name))


def _run_all(names: list[str], jobs: int) -> Iterator[Record]:
    if jobs == 1:
        yield from map(one, names)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(one, names)


def _done(records: Path | None) -> dict[str, Record]:
    if records is None or not records.exists():
        return {}
    lines = records.read_text(encoding="utf-8").splitlines()
    return {record["name"]: record for record in map(json.loads, lines)}
