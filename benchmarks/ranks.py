"""Faults on one rank of several, seeded: do all ranks agree, does it end, and is the right rank named?

    python benchmarks/ranks.py --trials 200 --ranks 2

Each trial is a short training (DDP or FSDP2) in a world of gloo processes of its own. In it one rank, drawn from the
seed, gets a NaN batch, an Inf in its gradient before reduction, a ruined weight or moment, is slow, or is killed: before
its forward pass, between backward and step, or while a checkpoint is written; or nothing happens. Counted is what must
not be: ranks that differ in a norm, a factor, a skip, a rollback or a weight (to the last bit); other steps skipped
than the faulty one; a rank not named; no rollback, or more than one, where a number was ruined; a world that hasn't
ended after a minute; a checkpoint that doesn't load.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.rank_trials import POISONED, RUINED, STEPS, Case, draw, run

PATIENCE_S = 60.0
PORTS = 5


def trial(case: Case) -> list[str]:
    """What went wrong in one trial."""
    for _ in range(PORTS):
        # No TemporaryDirectory: a forked process removes it at its own end.
        folder = Path(tempfile.mkdtemp())
        try:
            has_ended = _run_world(case, folder)
            if not _port_was_taken(folder):
                return _judged(case, folder) if has_ended else ["not ended after a minute"]
        finally:
            shutil.rmtree(folder)
    return [f"{PORTS} ports in a row were taken"]


def _run_world(case: Case, folder: Path) -> bool:
    """Run it; whether all processes have ended by themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")  # torch is loaded once
    world = [context.Process(target=run, args=(case, rank, port, folder)) for rank in range(case.ranks)]
    for process in world:
        process.start()
    until = time.monotonic() + PATIENCE_S
    for process in world:
        process.join(max(0.0, until - time.monotonic()))
    hung = any(process.is_alive() for process in world)
    for process in world:
        process.kill()
        process.join()
    return not hung


def _port_was_taken(folder: Path) -> bool:
    """Whether the world never began, since somebody else had come to its port first."""
    store = folder / "0.err"  # the store is rank 0's
    return store.exists() and "EADDRINUSE" in store.read_text(encoding="utf-8")


def _judged(case: Case, folder: Path) -> list[str]:
    errors = [(folder / f"{rank}.err").read_text(encoding="utf-8") for rank in range(case.ranks)]
    if case.fault == "killed rank":
        return _judge_killed(case, errors, folder)
    results = [folder / f"{rank}.json" for rank in range(case.ranks)]
    if not all(one.exists() for one in results):
        return [f"not run to its end: {errors[0][-300:]}"]
    return _judge(case, [json.loads(one.read_text(encoding="ascii")) for one in results])


def _judge_killed(case: Case, errors: list[str], folder: Path) -> list[str]:
    # The one who speaks for the others is rank 0, or whoever is left.
    told = "".join(text for rank, text in enumerate(errors) if rank != case.faulty)
    named = f"rank {case.faulty} of {case.ranks} has died"
    found = [] if named in told else ["killed rank not named"]
    if case.where == "while saving" and not (folder / "last" / ".metadata").exists():
        found.append("no whole checkpoint left")
    return found


def _judge(case: Case, results: list[dict[str, object]]) -> list[str]:
    first = results[0]
    skipped, rollbacks = first["skipped"], first["rollbacks"]
    assert isinstance(skipped, list)
    assert isinstance(rollbacks, list)
    ruined, poisoned = case.fault in RUINED, case.fault in POISONED
    named = all(float(case.faulty) in one["named"] for one in results)  # type: ignore[operator]
    found = {
        "ranks differ": len({one["numbers"] for one in results}) > 1,
        "not seen to the end": first["steps"] != STEPS,
        "wrong steps skipped": not ruined and skipped != [case.at] * poisoned,
        "wrong or no rank named": poisoned and not named,
        "not one rollback": len(rollbacks) != ruined,
        "rollback without the rank": any(f"(rank {case.faulty})" not in one for one in rollbacks),
        "weights not finite at the end": not first["finite"],
    }
    return [name for name, is_so in found.items() if is_so]


def main() -> None:
    """Run the trials and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument(
        "--at-once", type=int, default=4, help="worlds at a time; those with a killed rank mostly wait"
    )
    asked = parser.parse_args()
    began = time.perf_counter()
    cases = [draw(seed, asked.ranks) for seed in range(asked.trials)]
    with ThreadPoolExecutor(asked.at_once) as pool:
        wrong = list(pool.map(trial, cases))
    took = time.perf_counter() - began
    print(f"{asked.trials} trials on {asked.ranks} ranks, {took:.0f} s")
    for fault, count in sorted(Counter(case.fault for case in cases).items()):
        bad = [case for case, what in zip(cases, wrong, strict=True) if what and case.fault == fault]
        print(f"  {fault:16s} {count:4d} trials, {len(bad)} of them wrong")
    for case, what in zip(cases, wrong, strict=True):
        if what:
            print(f"  {case}: {'; '.join(what)}")


if __name__ == "__main__":
    main()
