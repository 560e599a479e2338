"""What was right about one case, and about many."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.faults.case import Case
from benchmarks.faults.classic import RIGHT
from benchmarks.faults.run import BEFORE, Record, Said
from steadygrad.records import SEVERITIES, Finding
from steadygrad.report.chapters import chapters


@dataclass(frozen=True)
class Answer:
    """One case with its record."""

    case: Case
    record: Record

    @cached_property
    def ranked(self) -> list[Said]:
        """The diagnosis, as `steadygrad explain` tells it: roots, the worst chapter first and of equals the earliest.

        A kind is counted once; notes don't count, and what only followed from a root stays under it.
        """
        said = [one for one in self.record["said"] if one["severity"] != "info"]
        findings = [_finding(one) for one in said]
        entry = {id(finding): one for finding, one in zip(findings, said, strict=True)}
        told = sorted(chapters(findings), key=lambda one: -SEVERITIES.index(one.severity))
        once: dict[str, Said] = {}
        for chapter in told:
            once.setdefault(chapter.root.kind, entry[id(chapter.root)])
        return list(once.values())

    @property
    def found(self) -> bool:
        """Whether anything was said at all."""
        return bool(self.ranked)

    def right_among(self, count: int) -> bool:
        """Whether a right cause is among the first."""
        return any(one["kind"] in self.case.causes for one in self.ranked[:count])

    @property
    def place_right(self) -> bool | None:
        """Whether the first right finding names the module first; None where there is none to name."""
        right = [one for one in self.ranked if one["kind"] in self.case.causes]
        if not self.case.place or not right:
            return None
        first = (right[0]["where"] or ["?"])[0]
        return any(first == place or first.startswith(f"{place}.") for place in self.case.place)

    @property
    def delay(self) -> int | None:
        """Steps from the fault to the first word about it; None where that isn't known or nothing was said."""
        at = self.case.at
        raised = [one["raised"] for one in self.ranked if at is not None and (at == 0 or one["raised"] >= at)]
        return max(0, min(raised) - at) if raised and at is not None else None

    @property
    def live_delay(self) -> int | None:
        """The same without the look before training."""
        at = self.case.at
        said = [one for one in self.record["said"] if one["severity"] != "info"]
        raised = [one["raised"] for one in said if at is not None and BEFORE < one["raised"] >= at]
        return min(raised) - at if raised and at is not None else None

    @property
    def seconds_within(self) -> bool:
        """Whether no diagnosis took longer than ten steps and a second."""
        return max(self.record["check_s"], self.record["told_s"]) <= 10 * self.record["step_s"] + 1.0

    def classic_found(self, tool: str) -> bool:
        """Whether one of the tool's rules fired."""
        return bool(self.record["classic"].get(tool))

    def classic_right(self, tool: str) -> bool:
        """Whether the first rule that fired stands for a right cause."""
        fired = self.record["classic"].get(tool)
        return bool(fired) and bool(RIGHT[fired[0][1]] & self.case.causes)


def _finding(said: Said) -> Finding:
    return Finding(
        said["kind"],
        said["severity"],
        min(said["step"], said["raised"]),  # what a look before training saw was there before the first step
        tuple(said["where"]),
        said["summary"],
        optimizer=said["optimizer"],
    )


def share(flags: Sequence[bool]) -> str:
    """As ``23 of 24 (96 %)``."""
    return f"{sum(flags)} of {len(flags)} ({sum(flags) / len(flags):.0%})" if flags else "-"


def median(numbers: Sequence[float]) -> float:
    """0 of nothing."""
    return statistics.median(numbers) if numbers else 0.0
