"""What a monitor has seen and done, told to a person. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steadygrad.detect.finding import listed
from steadygrad.records import SEVERITIES, Finding, Reading, TensorInfo


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
    """

    steps: int = 0
    clipped: int = 0
    skipped: int = 0
    overflows: int = 0
    nonfinite: int = 0
    lowered: int = 0

    def add(self, reading: Reading) -> None:
        """Count one step."""
        self.steps += 1
        self.clipped += reading.clip_coef < 1.0
        self.skipped += reading.skipped
        self.overflows += reading.overflow
        self.nonfinite += not np.isfinite(reading.total_norm)
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
    lines = [f"steadygrad {mode}: {_verdict(counts, findings)}"]
    lines += [f"  {_deeds(mode, counts)}"]
    lines += [f"  {line}" for text in explanations for line in text.splitlines()]
    for finding in sorted(findings, key=lambda f: (-SEVERITIES.index(f.severity), f.step)):
        lines.append(f"  {finding}")
        lines += [f"      try: {remedy}" for remedy in finding.remedies[:2]]
    lines += [f"  switched off: {fault}" for fault in faults]
    if run is not None:
        lines.append(f"  recorded in {run}; next: steadygrad explain {run}")
    return "\n".join(lines)


def _verdict(counts: Counts, findings: Sequence[Finding]) -> str:
    if not counts.steps:
        return "no optimizer step seen yet"
    worst = [f for f in findings if f.severity == "error"] or [f for f in findings if f.severity == "warning"]
    steps = f"{counts.steps:,} step{'s' if counts.steps != 1 else ''}"
    if not worst:
        return f"healthy, {steps}"
    kinds = list(dict.fromkeys(finding.kind for finding in worst))
    return f"{', '.join(kinds)} in {steps}"


def _deeds(mode: str, counts: Counts) -> str:
    if mode == "watch":
        return f"{counts.nonfinite:,} steps with non-finite gradients; nothing was changed"
    parts = [f"{counts.clipped:,} steps clipped", f"{counts.skipped:,} skipped"]
    if counts.overflows:
        parts.append(f"{counts.overflows:,} of them GradScaler overflows")
    if counts.lowered:
        parts.append(f"{counts.lowered:,} at a lowered learning rate")
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
