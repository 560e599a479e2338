"""When a step turns out non-finite: replay that one step, and tell the finding from where it began.

Watching costs nearly nothing, replaying costs a few steps: so the newest call of the model is only
held on to, and replayed when there is something to explain, a few times in a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from steadygrad.blame import KINDS, blamed, first_line
from steadygrad.detect.finding import make
from steadygrad.origin import LOSS, Origin
from steadygrad.ranks import Peers, exchange
from steadygrad.records import Finding, Severity
from steadygrad.tracing import Capture, Unstepped

MAX_REPLAYS = 3
"""A run that is ill again and again is explained thrice: replaying every bad step would slow it down."""


class Forensics:
    """Holds on to the model's newest call and explains non-finite steps with it.

    Args:
        model: its forward calls are held on to, one at a time.
        guarded: a guard is attached, so that attaching one is no remedy.
        replays: a step can be replayed; not where ranks talk to each other in their forward passes.
        on_call: called as each of them begins.

    Attributes:
        capture: what holds on to it.
        unstepped: counts losses of which no step comes.
        note: why the newest replay has named no origin.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        guarded: bool,
        replays: bool = True,
        on_call: Callable[[], None] = lambda: None,
    ) -> None:
        self.capture = Capture(model, on_call)
        self._guarded = guarded
        self._left = MAX_REPLAYS if replays else 0
        self._origins: dict[tuple[int, int], Origin] = {}
        self._shared: set[tuple[int, int]] = set()
        self._elsewhere: dict[tuple[int, int], str] = {}
        self._unknown: dict[tuple[int, int], str] = {}
        self._open: dict[int, Finding] = {}
        self.unstepped = Unstepped(self.capture)
        self.note = ""

    def begins(self, optimizer: int) -> None:
        """A step is about to be measured."""
        self.capture.begins(optimizer)

    def explain(self, optimizer: int, step: int, origin: Origin) -> None:
        """Somebody else knows where a step's fault began."""
        self._origins[optimizer, step] = origin

    def look(self, optimizer: int, step: int, peers: Peers | None = None) -> Finding | None:
        """Replay the step about to be made, while the weights are still those that made it.

        Args:
            optimizer: index of the optimizer.
            step: its step.
            peers: the other ranks of a data-parallel training: a NaN that one rank makes is in the gradient
                of all, and only that rank can say how it came about.

        Returns:
            What was found before and could not be explained then, if the fault that is still there can be now: the
            first step of a run may have gone by before anybody listened.
        """
        if not self._left:
            return None
        self._left -= 1
        with torch.enable_grad():
            origin, self.note = self.capture.replay()
        known = self._origins.get((optimizer, step))
        if origin is None or (known is not None and origin.operation == LOSS):
            origin = known
        if origin is not None:
            self._origins[optimizer, step] = origin
        elif self.note:
            self._unknown[optimizer, step] = self.note
        if peers is not None:
            self._shared.add((optimizer, step))
            own = "" if origin is None else first_line(origin)
            said = exchange(peers, f"{optimizer}/{step}", own)
            found = [text for _, text in sorted(said.items()) if text]
            if found and origin is None:
                self._elsewhere[optimizer, step] = found[0]
        unexplained = self._open.pop(optimizer, None)
        # Weights that a step has ruined are what it did, not why.
        if unexplained is None or origin is None or origin.phase == "optimizer":
            return None
        return replace(unexplained, step=step)

    def last_words(self, step: int) -> Finding | None:
        """What is wrong with the newest call of the model, of which no step came; None where nothing is."""
        with torch.enable_grad():
            origin = self.capture.broken_call() if self._left else None
        if origin is None:
            return None
        self._origins[0, step] = origin
        return make(KINDS[origin.phase], "error", step, first_line(origin), guarded=self._guarded)

    def loss(self, made: tuple[int, ...], value: float) -> Finding | None:
        """A loss that isn't finite was logged; what is to be said where it is one of several and no step came between.

        Args:
            made: steps made so far, for each optimizer.
            value: the loss.
        """
        count = self.unstepped.nonfinite(made)
        if not count:
            return None
        mode = "guard" if self._guarded else "watch"
        summary = (
            f"{count} losses in a row aren't finite, and no step has come between them: the loop, or a GradScaler, leaves such "
            f"steps out; {mode}.left_out(optimizer) has them counted"
        )
        evidence = {"losses": float(count), "loss": value}
        severity: Severity = "error" if self.unstepped.is_end else "warning"
        found = make("nonfinite_loss", severity, made[0], summary, evidence=evidence, guarded=self._guarded)
        origin = None
        if self._left and self.capture.at_rest:
            self._left -= 1
            with torch.enable_grad():
                origin = self.capture.broken_call()
        if origin is None:
            return found
        told = blamed(found, origin, guarded=self._guarded)
        return replace(told, kind=found.kind, summary=f"{summary}. {told.summary}")

    def told(self, finding: Finding) -> Finding:
        """The finding with its origin, where that is known; else as it is."""
        place = finding.optimizer, finding.step
        if not finding.kind.startswith("nonfinite_"):
            return finding
        origin = self._origins.get(place)
        if origin is not None:
            told = blamed(finding, origin, guarded=self._guarded)
            # As the others have heard it: the story of all ranks is one.
            return replace(told, summary=f"{told.summary}.") if place in self._shared else told
        there = self._elsewhere.get(place)
        if there is None and finding.kind != "nonfinite_parameter":
            self._open[finding.optimizer] = finding
        if there:
            return replace(finding, summary=f"{there}.")
        why = self._unknown.get(place)
        return _unexplained(finding, why) if why else finding

    def origin(self, optimizer: int, step: int) -> Origin | None:
        """Where a step's fault began, as far as it was looked for."""
        return self._origins.get((optimizer, step))

    def close(self) -> None:
        """Let go of the model."""
        self.capture.close()


def _unexplained(finding: Finding, why: str) -> Finding:
    summary = finding.summary.removesuffix(".")
    return replace(finding, summary=f"{summary}. Where it began isn't known: {why}.")
