"""A rollback for the loss's sake is a guess: the losses after it tell whether it has helped."""

from __future__ import annotations

from typing import Literal

from steadygrad.recover.course import Question

PAUSE = 16
"""Steps for which the loss is left alone after a rollback that didn't bring it down: the data may be ill."""
RARE = 64
"""Steps after which a trial ends whether enough losses were logged or not."""
IN_VAIN = 2
"""Rollbacks in vain after which it isn't the weights that have changed."""

Verdict = Literal["", "helped", "in vain", "give up"]


class Trial:
    """Whether the newest rollback has helped."""

    def __init__(self) -> None:
        self._question: Question | None = None
        self._losses: list[float] = []
        self._steps = self._pause = self._in_vain = 0
        self._last = 1

    @property
    def running(self) -> bool:
        """Whether that isn't known yet."""
        return self._question is not None

    @property
    def idle(self) -> bool:
        """Whether nothing is asked and nothing is waited for: then `step` and `pauses` need no call."""
        return self._question is None and not self._pause

    def begin(self, question: Question, *, last: bool) -> None:
        """The weights have been put back.

        Args:
            question: what must come true.
            last: whether to give up at once if it doesn't.
        """
        self._question, self._losses, self._steps, self._last = question, [], 0, 1 if last else IN_VAIN

    def end(self) -> None:
        """Whatever was asked isn't any more."""
        self._question = None

    def add(self, loss: float) -> None:
        """One loss after the rollback."""
        if self._question is not None:
            self._losses.append(loss)

    def step(self) -> Verdict:
        """One step has been made; says once what came of the rollback."""
        question = self._question
        self._steps += 1
        if question is None or (len(self._losses) < question.losses and self._steps < RARE):
            return ""
        self._question = None
        missing = max(0, question.losses - len(self._losses))
        if question.answered([*self._losses, *[question.bar] * missing]):
            self._in_vain = self._pause = 0
            return "helped"
        self._in_vain += 1
        self._pause = PAUSE
        if self._in_vain < self._last:
            return "in vain"
        self._in_vain = self._pause = 0
        return "give up"

    def pauses(self) -> bool:
        """Whether the loss is left alone in this step."""
        if self._question is not None:
            return True
        self._pause = max(0, self._pause - 1)
        return self._pause > 0
