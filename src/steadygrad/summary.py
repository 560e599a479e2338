"""What a monitor has seen and done, told to a person. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steadygrad.catalog import CATALOG
from steadygrad.detect.finding import listed
from steadygrad.records import SEVERITIES, Finding, Reading, TensorInfo
from steadygrad.report.chapters import Chapter, chapters

_MOST_CHAPTERS = 8
_MOST_STEPS = 5


@dataclass(slots=True)
class Counts:
    """How many steps there were and what became of them.

    Attributes:
        steps: optimizer steps seen.
        clipped: steps in which a gradient was scaled down.
        skipped: steps left out because gradients were non-finite.
        overflows: those of them that were a ``GradScaler`` looking for its scale.
        nonfinite: steps with non-finite gradients, skipped or not.
        lowered: steps made at a lowered learning rate.
        engaged_at: step at which the policy first had to engage; None where it never did.
        rollbacks: returns to an earlier state.
        repairs: times that non-finite buffers were put back.
    """

    steps: int = 0
    clipped: int = 0
    skipped: int = 0
    overflows: int = 0
    nonfinite: int = 0
    lowered: int = 0
    engaged_at: int | None = None
    rollbacks: int = 0
    repairs: int = 0

    def add(self, reading: Reading) -> None:
        """Count one step."""
        self.steps += 1
        self.clipped += reading.clip_coef < 1.0
        self.skipped += reading.skipped
        self.overflows += reading.overflow
        self.nonfinite += not math.isfinite(reading.total_norm)
        self.lowered += reading.lr_factor < 1.0


def summarise(
    mode: str,
    counts: Counts,
    findings: Sequence[Finding],
    explanations: Sequence[str],
    faults: Sequence[str],
    run: str | None,
) -> str:
    """The text of ``guard.summary()``: verdict, what was done, findings, where the run is, if it is still recorded."""
    told = chapters(findings)
    lines = [f"steadygrad {mode}: {_verdict(counts, told)}"]
    lines += [f"  {_deeds(mode, counts)}"]
    lines += [f"  {line}" for text in explanations for line in text.splitlines()]
    worst_first = sorted(told, key=lambda chapter: -SEVERITIES.index(chapter.severity))
    for chapter in worst_first[:_MOST_CHAPTERS]:
        lines += [f"  {line}" for line in _tell(chapter)]
    if len(told) > _MOST_CHAPTERS:
        lines.append(f"  and {len(told) - _MOST_CHAPTERS:,} more")
    lines += [f"  switched off: {fault}" for fault in faults]
    if run is not None:
        lines.append(f"  recorded in {run}; next: steadygrad explain {run}")
    return "\n".join(lines)


def copies_told(memory_bytes: int, taken: int) -> str:
    """What recovery costs in memory, and how often it has copied.

    Args:
        memory_bytes: of both copies together.
        taken: copies after the first.
    """
    again = "" if not taken else f", made anew {taken:,} time{'s' if taken != 1 else ''}"
    return f"recovery: two copies of the state take {_size(memory_bytes)} of host memory{again}"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def _tell(chapter: Chapter) -> list[str]:
    """One root cause: what it is, why, what to change, how to see that it is cured, what came of it."""
    root = chapter.root
    lines = [str(root)]
    lines += [f"    why: {cause}" for cause in root.causes[:1]]
    lines += [f"    try: {remedy}" for remedy in root.remedies[:2]]
    if root.kind in CATALOG:
        lines.append(f"    cured when: {CATALOG[root.kind].verify}")
    if chapter.repeats:
        steps = ", ".join(f"{finding.step:,}" for finding in chapter.repeats[:_MOST_STEPS])
        often = "once" if len(chapter.repeats) == 1 else f"{len(chapter.repeats):,} times"
        lines.append(f"    again {often}, at step {steps}")
    lines += [f"    then: {finding}" for finding in chapter.consequences[:_MOST_STEPS]]
    return lines


def _verdict(counts: Counts, told: Sequence[Chapter]) -> str:
    if not counts.steps and not told:
        return "no optimizer step seen yet"
    steps = f"{counts.steps:,} step{'s' if counts.steps != 1 else ''}"
    for severity in ("error", "warning"):
        worst = [chapter for chapter in told if chapter.severity == severity]
        if worst:
            kinds = list(dict.fromkeys(chapter.root.kind for chapter in worst))
            return f"{', '.join(kinds)} in {steps}"
    if counts.engaged_at is not None:
        return f"unstable from step {counts.engaged_at:,}, held ({counts.clipped:,} steps clipped), {steps}"
    return f"healthy, {steps}"


def _deeds(mode: str, counts: Counts) -> str:
    if mode == "watch":
        return f"{counts.nonfinite:,} steps with non-finite gradients; nothing was changed"
    parts = [f"{counts.clipped:,} steps clipped", f"{counts.skipped:,} skipped"]
    if counts.overflows:
        parts.append(f"{counts.overflows:,} of them GradScaler overflows")
    if counts.lowered:
        parts.append(f"{counts.lowered:,} at a lowered learning rate")
    if counts.rollbacks:
        parts.append(f"{counts.rollbacks:,} rollback{'s' if counts.rollbacks != 1 else ''}")
    if counts.repairs:
        parts.append(f"buffers repaired {counts.repairs:,} time{'s' if counts.repairs != 1 else ''}")
    return ", ".join(parts)


def no_step_seen(mode: str, *, by_hand: bool) -> str:
    """What to say at the end of a loop in which nothing was seen."""
    if by_hand:
        return f"the {mode} was closed and its clip_() was never called. Call it between backward and the update."
    return (
        f"the {mode} was closed and no optimizer step was seen. Was it this optimizer that stepped, and does it "
        f"call torch's step hooks? If it doesn't, leave it out and call clip_() of the {mode} in your loop."
    )


def where_nonfinite(reading: Reading, tensors: Sequence[TensorInfo]) -> str:
    """The tensors whose gradient is non-finite, the one nearest to the output first."""
    bad = [tensors[i].name for i in np.flatnonzero(reading.nonfinite)[::-1] if i < len(tensors)]
    return listed(bad) if bad else "the total norm"
