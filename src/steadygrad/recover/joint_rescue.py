"""Recovery over ranks: what one of them finds, all are told, and all go back in the same step or none does.

Each rank copies its own parts to its own host memory. With the collective that every step has anyway, six numbers say
how many ranks are due for a copy, find theirs sound, are in trouble and so on (`Flags`). Only when one is in trouble do
they agree, through the key-value store of the process group, on whether to go back and to which copy. What isn't the
same on all ranks (a flipped bit, a loss of one's own, a clock) is never acted on alone.

Order of a step: `begins` says -> the collective -> the optimizer's step -> `ended` hears, looks, says again or acts.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from steadygrad.ranks import Flags, Ranks, agree, exchange
from steadygrad.records import Reading
from steadygrad.recover.joint_keeper import JointKeeper
from steadygrad.recover.rescue import Rescue
from steadygrad.recover.signs import STREAK
from steadygrad.recover.votes import NO_VOTE, Decision, Vote, decide

PATIENCE_S = 30.0
"""Longest wait for the others in a rollback; they have just ended the same step."""


class JointRescue(Rescue):
    """One rank's side of a recovery that all ranks make together.

    Args:
        ranks: this rank's side of each optimizer's collective.
        args: see `Rescue`.
        kwargs: see `Rescue`.
    """

    KEEPER = JointKeeper
    _keeper: JointKeeper

    def __init__(self, ranks: Sequence[Ranks], *args: Any, **kwargs: Any) -> None:
        self._ranks = ranks
        self._peers = ranks[0].peers
        super().__init__(*args, **kwargs)
        self._keeper.world = self._peers.world
        self._waiting: deque[Reading] = deque()
        self._newest: list[Reading | None] = [None] * len(ranks)
        self._vote = NO_VOTE
        self._votes = 0
        self._gives_up = False
        self._cause: list[str] = []
        self._why_not = ""

    def begins(self) -> None:
        """A step is about to be made: before the first one the state is copied; say what the others must know."""
        if self._off:
            return
        if self._began and self._course.elevated:
            self._outlet.wary()
        if not self._began:
            self._begin()
        told = self._keeper.flags()._replace(
            trouble=float(self._vote is not NO_VOTE),
            loaded=float(self._loads.take()),
            off=float(bool(self._why_not)),
        )
        for ranks, track in zip(self._ranks, self._tracks, strict=True):
            ranks.say(told, track.lane.step)

    def scalar(self, step: int, name: str, value: float) -> None:
        """Losses come with the collective: what counts is their mean over the ranks."""

    def stepped(self, reading: Reading) -> None:
        """A Reading has come, perhaps earlier than to the others: it is looked at when the step has ended."""
        self._waiting.append(reading)

    def ended(self, index: int) -> None:
        """A step has ended, here and on every other rank.

        Raises:
            RecoveryFailed: going back doesn't help.
        """
        if self._off or not self._began:
            self._waiting.clear()
            return
        heard = self._ranks[index].heard
        if heard.off:
            self._end()
            return
        if index == 0:
            self._keeper.hear(heard)
        for _ in range(len(self._waiting)):
            reading = self._waiting.popleft()
            if reading.optimizer == index:
                self._look(reading, heard)
            else:
                self._waiting.append(reading)
        if heard.loaded:
            self._begin_again()
        newest = self._newest[index]
        if heard.trouble and newest is not None:
            self._decide(newest)

    def _look(self, reading: Reading, heard: Flags) -> None:
        """Take in one Reading; it, the losses and so the verdict are the same on every rank, trouble may not be."""
        index = reading.optimizer
        self._newest[index] = reading
        if reading.step < self._blind[index]:
            return
        if index == 0:
            self._take_loss(reading.step)
        ill = self._keeper.ill()
        vote = self._vote_on(reading, ill)
        if self._vote is NO_VOTE:
            self._vote = vote
        if not heard.trouble:  # else all of it may be about to go back
            self._mend(reading, ill)
        clean = self._is_clean(reading) and not heard.trouble
        self._note(reading, clean=clean)
        if index == 0:
            self._attempt_copy(self._keeper.step, self._tracks[0].lane.step, clean=clean)

    def _take_loss(self, step: int) -> None:
        came = self._ranks[0].loss(step)
        if came is not None and came[0] >= self._blind[0]:
            self._course.add(came[1])
            self._trial.add(came[1])

    def _vote_on(self, reading: Reading, ill: Sequence[str]) -> Vote:
        """Every sign is looked at, whatever another says: the counters behind them must go on alike everywhere."""
        ruined, where = self._signs.ruined(reading, ill)
        is_streak = self._count_skips(reading)
        self._gives_up = False
        by_loss = self._loss_trouble(reading)
        if ruined:
            return Vote("numbers", ruined, where)
        if is_streak:
            kind = "data" if self._signs.input_is_ill(reading) else "skips"
            text = f"{STREAK} steps in a row were non-finite, and the input wasn't"
            return Vote(kind, text, [], never=self._never_made(reading))
        if by_loss:
            return Vote("loss", by_loss, [])
        return Vote("accept", "", []) if self._gives_up else NO_VOTE

    def _give_up(self, reading: Reading) -> None:
        del reading
        self._gives_up = True

    def _decide(self, reading: Reading) -> None:
        """Somebody is in trouble: agree on what to do, and do it."""
        good, ruined = self._keeper.good, self._keeper.ruined
        vote = self._vote
        own = {
            **asdict(vote),
            "cause": super()._cause_in_copy(vote.where, never=vote.never)
            if vote.kind in {"numbers", "skips"}
            else [],
            "copy": None if good is None else good.step,
            "undoes": ruined is not None,
        }
        self._vote = NO_VOTE
        self._votes += 1
        answer = agree(
            self._peers,
            f"recovery/{self._votes}",
            json.dumps(own),
            lambda heard: json.dumps(asdict(decide(heard, self._peers.world))),
            unheard=json.dumps(asdict(Decision("off", "rank 0 doesn't answer"))),
            patience_s=PATIENCE_S,
        )
        decision = Decision(**json.loads(answer))
        self._cause = decision.cause
        if decision.deed == "back":
            self._go_back(reading, decision.text, decision.where)
        elif decision.deed == "accept":
            if not decision.undoes:
                self._keeper.drop_ruined()
            self._accept(reading)
        elif decision.deed == "off":
            self._why_not = decision.text

    def _cause_in_copy(self, where: Sequence[str], *, never: bool) -> list[str]:
        del where, never
        return self._cause

    def _keep_ruined(self) -> None:
        try:
            super()._keep_ruined()
        except (MemoryError, RuntimeError):
            # Then there is no way back from the rollback; the rollback itself must not fail here alone.
            self._keeper.drop_ruined()

    def _begin_again(self) -> None:
        self._attempt_copy(self._keeper.again, self._tracks[0].lane.step)
        self._course.accept()
        self._trial.end()
        self._signs.forget()

    def _cannot(self, why: str) -> None:
        self._why_not = why

    def _end(self) -> None:
        """A rank can't recover, so none does."""
        self._off = True
        said = exchange(self._peers, "recovery/off", self._why_not)
        reasons = [f"rank {rank}: {why}" for rank, why in said.items() if why]
        failed = [rank for rank in range(self._peers.world) if rank not in said]
        if failed:
            reasons.append(f"recovery on rank {', '.join(map(str, failed))} has failed or wasn't asked for")
        self._outlet.say("recovery", f"no recovery on any rank: {'; '.join(reasons)}.")

    def _allowed_bytes(self) -> float:
        allowed = super()._allowed_bytes()
        return allowed / self._peers.on_host if self._plan.is_default else allowed
