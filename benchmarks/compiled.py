"""Is a compiled, checkpointed, accumulating training guarded as a plain one is? Every combination, in one process.

    python -m benchmarks.compiled                      # 108 combinations, six trainings each: some five minutes
    python -m benchmarks.compiled --backend inductor   # compiled to C++: slow, and a compiler is needed
    python -m benchmarks.compiled --only model --dry

Each is trained bare, watched, clipped, and with a batch in the middle that makes a NaN in three ways. Asked is whether
every step was seen once, whether norms are those of the plain eager training (relative 1e-5), whether a clipped step
is one clipped by hand, whether weights under `watch` are those without it to the last bit, whether the poisoned step
alone was left out, and what is said of it: operation, module and line, or that they aren't known.
"""

from __future__ import annotations

import argparse
import itertools
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import partial

import torch
from rich.progress import track
from torch import Tensor, nn

import steadygrad as sg
from benchmarks.compiled_trainings import (
    ACCUMULATED,
    ATTACHED,
    CHECKPOINTED,
    COMPILED,
    FAULTS,
    POISONED,
    STEPS,
    WARM,
    Case,
    Training,
    stream,
)
from benchmarks.results import machine, write_section
from steadygrad.monitor import Monitor

MAX_NORM = 0.05
RIGHT = ("seen once", "norms", "clip", "watch", "left out")
UNKNOWN = "Where it began isn't known"
SAYS = {
    "input": ("in the batch before the step began",),
    "forward": ("aten.log in block (Block) (forward)", "torch.log(x[:, :1] + 2.0)"),
    "backward": ("SqrtBackward0 in block (Block) (backward)", "torch.sqrt((hidden"),
}


def judged(case: Case) -> Counter[str]:
    """What came of one combination: `RIGHT` where it did, and for each fault ``named``, ``unknown`` or ``wrong``."""
    bare = Training(case, None)
    bare.run(stream(case.micro))
    found = Counter({"cases": 1})
    found.update(_watched(case, bare.weights()))
    found["clip"] += _clips_as_by_hand(case)
    told = [_poisoned(case, fault) for fault in FAULTS]
    found["left out"] += all(is_left_out for is_left_out, _ in told)
    found.update(word for _, word in told)
    return found


def _watched(case: Case, bare: list[Tensor]) -> Counter[str]:
    norms: list[list[float]] = []
    truth = _by_hand(case)
    truth.run(stream(case.micro), lambda _, one: norms.append(_norms(one.net)))
    watched = Training(case, sg.watch)
    watched.run(stream(case.micro))
    monitor = _closed(watched)
    first = _first_seen(case)
    ours = [reading.norms.tolist() for reading in monitor.recent]
    return Counter(
        {
            "seen once": monitor.counts.steps == STEPS - first,
            "norms": all(map(_near, ours, norms[first:])) and len(ours) == STEPS - first,
            "watch": all(map(torch.equal, watched.weights(), bare)),
        }
    )


def _clips_as_by_hand(case: Case) -> bool:
    guarded = Training(case, partial(sg.guard, policy=sg.policies.clip_norm(MAX_NORM), recover=False))
    guarded.run(stream(case.micro))
    first = _first_seen(case)

    def clip(step: int, one: Training) -> None:
        if step >= first:
            nn.utils.clip_grad_norm_(one.net.parameters(), MAX_NORM)

    by_hand = _by_hand(case)
    by_hand.run(stream(case.micro), clip)
    return _closed(guarded).counts.clipped == STEPS - first and _same(guarded, by_hand)


def _poisoned(case: Case, fault: str) -> tuple[bool, str]:
    """Whether the poisoned step was left out and no other, and whether its origin was ``named``."""
    # A policy that never acts: what is compared is the step that is left out.
    guarded = Training(case, partial(sg.guard, policy=sg.policies.clip_norm(1e9), recover=False))
    guarded.run(stream(case.micro, fault))

    def leave_out(step: int, one: Training) -> None:
        if step == POISONED:
            one.optimizer.zero_grad()

    by_hand = _by_hand(case)
    by_hand.run(stream(case.micro, fault), leave_out)
    monitor = _closed(guarded)
    skipped = [reading.step for reading in monitor.recent if reading.skipped]
    is_left_out = skipped == [POISONED - _first_seen(case)] and _same(guarded, by_hand)
    told = next((one.summary for one in monitor.findings if one.kind.startswith("nonfinite_")), "")
    if all(words in told for words in SAYS[fault]):
        return is_left_out, "named"
    return is_left_out, "unknown" if UNKNOWN in told else "wrong"


def _by_hand(case: Case) -> Training:
    return Training(Case("nothing", "after", case.checkpointed, case.micro), None)


def _first_seen(case: Case) -> int:
    return WARM if case.attached == "in the middle" else 0


def _closed(training: Training) -> Monitor:
    monitor = training.monitor
    assert monitor is not None
    monitor.detach()
    return monitor


def _norms(model: nn.Module) -> list[float]:
    return [
        float(torch.linalg.vector_norm(param.grad)) for param in model.parameters() if param.grad is not None
    ]


def _near(ours: list[float], truth: list[float]) -> bool:
    return torch.allclose(torch.tensor(ours), torch.tensor(truth), rtol=1e-5, atol=1e-7)


def _same(one: Training, other: Training) -> bool:
    pairs = zip(one.weights(), other.weights(), strict=True)
    return all(torch.allclose(ours, theirs, rtol=1e-5, atol=1e-7) for ours, theirs in pairs)


def cases(backend: str, only: str | None = None) -> Iterator[Case]:
    """Every combination."""
    for compiled, *rest in itertools.product(COMPILED, ATTACHED, CHECKPOINTED, ACCUMULATED):
        if only in {None, compiled}:
            yield Case(compiled, *rest, backend=backend)


def _row(compiled: str, found: Counter[str]) -> str:
    of = found["cases"]
    cells = [f"{found[name]} of {of}" for name in RIGHT]
    return f"| {compiled} | {of} | {' | '.join(cells)} | {found['named']} | {found['unknown']} | {found['wrong']} |"


HEAD = (
    "| compiled | cases | each step seen once | norms | clip as by hand | watched to the bit | poisoned step alone left out "
    "| origin named | said to be unknown | wrong |\n| --- |" + " ---: |" * 9
)


def main() -> None:
    """Train them all and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", choices=("eager", "aot_eager", "inductor"), default="aot_eager")
    parser.add_argument("--only", choices=COMPILED, help="what is compiled")
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    os.environ["STEADYGRAD_QUIET"] = "1"
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows: dict[str, Counter[str]] = {}
    for case in track(list(cases(options.backend, options.only)), options.backend, transient=True):
        found = judged(case)
        rows.setdefault(case.compiled, Counter()).update(found)
        if found["wrong"] or not all(found[name] for name in RIGHT):
            print(f"{case}: {dict(found)}", flush=True)
    text = "\n".join([HEAD, *(_row(compiled, found) for compiled, found in rows.items())])
    print(text)
    if not options.dry:
        write_section(f"compiled {options.backend}", f"{machine(1)}\n\n{text}")


if __name__ == "__main__":
    main()
