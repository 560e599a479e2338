"""Findings put in order: one root cause is told once, with its repeats and consequences under it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from steadygrad.records import SEVERITIES, Finding, Severity

WINDOW_STEPS = 64
"""How long after a cause a consequence may show: the detectors' statistics look back this far."""

STANDING = frozenset(
    {
        "stale_optimizer",
        "missing_zero_grad",
        "constant_input",
        "constant_targets",
        "unnormalised_input",
        "unscaled_targets",
        "single_class_softmax",
        "sharp_softmax",
    }
)
"""Faults that are there at every step, not only at the one that told them: what follows may take its time."""

_RUINED = frozenset({"nonfinite_activation", "nonfinite_loss", "nonfinite_gradient", "nonfinite_parameter"})
_UNSTABLE = frozenset(
    {"exploding_gradient", "loss_spike", "divergence", "clip_is_step_limiter", "overflow_streak", *_RUINED}
)
_STUCK = frozenset(
    {"dead_units", "saturated_units", "vanishing_gradient", "stalled_update", "constant_prediction"}
)

LEADS_TO: dict[str, frozenset[str]] = {
    "stale_optimizer": frozenset({"disconnected_loss", "disconnected_parameters", "stalled_update"}),
    "disconnected_loss": frozenset({"disconnected_parameters", "vanishing_gradient", "stalled_update"}),
    "missing_zero_grad": _UNSTABLE | {"oversized_update", "learning_rate_too_high"},
    "constant_input": _STUCK,
    "constant_targets": _STUCK,
    "unscaled_targets": _UNSTABLE | _STUCK | {"oversized_update", "learning_rate_too_high"},
    "sharp_softmax": _UNSTABLE | _STUCK | {"learning_rate_too_high"},
    "unnormalised_input": _UNSTABLE | _STUCK | {"oversized_update", "learning_rate_too_high"},
    "single_class_softmax": _STUCK | {"vanishing_in_time"},
    "nonfinite_input": _RUINED | {"overflow_streak", "optimizer_state_corrupt"},
    "optimizer_state_corrupt": _UNSTABLE | {"oversized_update"},
    "exploding_in_time": _UNSTABLE | {"oversized_update"},
    "learning_rate_too_high": _UNSTABLE | _STUCK | {"oversized_update"},
    "oversized_update": _UNSTABLE | _STUCK,
    "exploding_gradient": (_UNSTABLE - {"exploding_gradient"}) | _STUCK,
    "nonfinite_activation": _RUINED - {"nonfinite_activation"}
    | {"overflow_streak", "optimizer_state_corrupt"},
    "nonfinite_loss": frozenset(
        {"nonfinite_gradient", "nonfinite_parameter", "overflow_streak", "optimizer_state_corrupt"}
    ),
    # Unguarded, one such step ruins the weights, and with them whatever comes after.
    "nonfinite_gradient": _RUINED - {"nonfinite_gradient"} | {"optimizer_state_corrupt", "overflow_streak"},
    "nonfinite_parameter": _RUINED - {"nonfinite_parameter"} | {"overflow_streak"},
    "loss_spike": frozenset({"divergence"}),
    "dead_units": frozenset({"vanishing_gradient", "stalled_update", "constant_prediction"}),
    "saturated_units": frozenset({"vanishing_gradient", "stalled_update", "constant_prediction"}),
    "vanishing_gradient": frozenset({"stalled_update", "constant_prediction"}),
    "vanishing_in_time": frozenset({"constant_prediction"}),
}
"""What each kind directly brings about; the order puts causes before effects within one step."""

_CAUSES_FIRST = {kind: place for place, kind in enumerate(LEADS_TO)}


@dataclass(slots=True)
class Chapter:
    """One root cause.

    Attributes:
        root: the finding that came first.
        repeats: the same kind again, at the same place.
        consequences: other kinds that followed from it.
    """

    root: Finding
    repeats: list[Finding] = field(default_factory=list)
    consequences: list[Finding] = field(default_factory=list)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of the chapter, the root first."""
        return (self.root, *self.repeats, *self.consequences)

    @property
    def severity(self) -> Severity:
        """The worst of the chapter."""
        return max((finding.severity for finding in self.findings), key=SEVERITIES.index)

    def repeated_by(self, finding: Finding) -> bool:
        """Whether ``finding`` is the root's kind once more, at a place it named already."""
        root = self.root
        return (finding.kind, finding.optimizer) == (root.kind, root.optimizer) and _overlap(root, finding)

    def leads_to(self, finding: Finding) -> bool:
        """Whether ``finding`` can follow from something in the chapter, not long before it."""
        return any(
            finding.optimizer == cause.optimizer
            and finding.step - cause.step >= 0
            and (finding.step - cause.step <= WINDOW_STEPS or cause.kind in STANDING)
            and finding.kind in LEADS_TO.get(cause.kind, ())
            for cause in self.findings
        )


def chapters(findings: Iterable[Finding]) -> list[Chapter]:
    """Group findings by root cause.

    Args:
        findings: in the order in which they were recorded.

    Returns:
        The chapters, by the step of their root.
    """
    told: list[Chapter] = []
    for finding in sorted(_settled(findings), key=_by_step):
        _place(finding, told)
    return told


def _settled(findings: Iterable[Finding]) -> list[Finding]:
    """Of a finding that was raised to a higher severity as it went on, only the last word; of one told twice, one."""
    kept: dict[tuple[str, int, int], list[Finding]] = {}
    for finding in findings:
        same = kept.setdefault((finding.kind, finding.optimizer, finding.step), [])
        raised = [f for f in same if _overlap(f, finding) and _rank(f) < _rank(finding)]
        told = any(_overlap(f, finding) and f.summary == finding.summary for f in same if f not in raised)
        same[:] = [f for f in same if f not in raised] + ([] if told else [finding])
    return [finding for same in kept.values() for finding in same]


def _overlap(one: Finding, other: Finding) -> bool:
    return not one.where or not other.where or not set(one.where).isdisjoint(other.where)


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity)


def _by_step(finding: Finding) -> tuple[int, int]:
    return finding.step, _CAUSES_FIRST.get(finding.kind, len(LEADS_TO))


def _place(finding: Finding, told: list[Chapter]) -> None:
    for chapter in told:
        if chapter.leads_to(finding):
            chapter.consequences.append(finding)
            return
        if chapter.repeated_by(finding):
            chapter.repeats.append(finding)
            return
    told.append(Chapter(finding))
