"""What a checkup found."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from steadygrad.checkup.remedies import Trials
from steadygrad.errors import UsageError
from steadygrad.gains import Gains
from steadygrad.records import SEVERITIES, Finding
from steadygrad.report.wording import layer

_MOST_REMEDIES = 3


@dataclass(frozen=True, slots=True)
class Checkup:
    """A model, a batch, a loss and an optimizer, looked at before training.

    Attributes:
        findings: what a person should know, the worst first.
        measured: growth of the gradient over layers and time.
        loss: the first loss.
        notes: what could not be checked, and why.
    """

    findings: tuple[Finding, ...]
    measured: Gains
    loss: float
    notes: tuple[str, ...] = ()
    _try: Callable[[int], Trials] | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether nothing worse than a note was found."""
        return all(finding.severity == "info" for finding in self.findings)

    @property
    def gains(self) -> list[tuple[str, float]]:
        """Growth of the gradient from each layer's successor to it, in forward order."""
        return [(layer.module, layer.growth) for layer in self.measured.layers]

    @property
    def gain_per_layer(self) -> float:
        """Fitted growth for each layer back; 1 is healthy."""
        return self.measured.per_layer

    @property
    def time_gain(self) -> Mapping[str, float]:
        """Fitted growth for each time step back, by recurrent module."""
        return {one.module: one.per_step for one in self.measured.time}

    def try_remedies(self, steps: int = 40) -> Trials:
        """Train copies for a few steps with each remedy that applies, and rank them by what happened.

        Args:
            steps: on the batch of the checkup; 40 tell a cure from a hope within a second or two on a small
                model.

        Returns:
            The trials, the best first; none where no optimizer was given, or the training can't be copied.

        Raises:
            UsageError: ``steps`` is not a whole number of at least 1.
        """
        given: object = steps
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise UsageError(
                f"try_remedies(steps={steps!r}): steps must be a whole number of at least 1; 40 tell most cures."
            )
        return Trials(()) if self._try is None else self._try(steps)

    def __str__(self) -> str:
        """The verdict, then each finding with its reason and what to change."""
        lines = [f"checkup: {self._verdict()}", *(f"  {line}" for line in str(self.measured).splitlines())]
        for finding in self.findings:
            place = f" in {', '.join(layer(name) for name in finding.where[:3])}" if finding.where else ""
            lines.append(f"  {finding.severity}: {finding.kind}{place}: {finding.summary}")
            lines += [f"      why: {cause}" for cause in finding.causes[:1]]
            lines += [f"      try: {remedy}" for remedy in finding.remedies[:_MOST_REMEDIES]]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        return f"<pre style='white-space: pre-wrap'>{html.escape(str(self))}</pre>"

    def _verdict(self) -> str:
        if self.ok:
            return f"nothing to worry about; first loss {self.loss:.4g}"
        worst = max(self.findings, key=lambda finding: SEVERITIES.index(finding.severity))
        count = sum(finding.severity != "info" for finding in self.findings)
        return f"{count} finding{'s' if count > 1 else ''}, first {worst.kind}"
