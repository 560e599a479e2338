"""Ultralytics in a script that is run: attached to as `integrations.ultralytics.attach` does.

Watched from outside, its training would still take a poisoned batch into the running statistics, the
moving average and the files. So each trainer gets the integration when its training begins, unless the
script has attached one itself.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from steadygrad.errors import FrameworkMissing
from steadygrad.integrations.attaching import Wish
from steadygrad.integrations.ultralytics import Attachment, require_ultralytics
from steadygrad.launch.arm.session import Session

TRAINER_MODULE = "ultralytics.engine.trainer"


def follow_trainers(session: Session) -> None:
    """Ultralytics' trainers have just been imported: attach to each of them when it begins to train."""
    trainers = sys.modules[TRAINER_MODULE].BaseTrainer
    original: Callable[..., Any] = trainers.train

    @functools.wraps(original)
    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        if session.active:
            session.contained("attaching to Ultralytics", _attach, session, self)
        return original(self, *args, **kwargs)

    trainers.train = train


def _attach(session: Session, trainer: Any) -> None:
    calls = [call for calls in trainer.callbacks.values() for call in calls]
    if any(isinstance(getattr(call, "__self__", None), Attachment) for call in calls):
        return
    try:
        require_ultralytics()
    except FrameworkMissing as missing:
        session.say("ultralytics", f"Ultralytics is seen as any other script: {missing}")
        return
    wish = Wish("steadygrad run", session.orders.mode, session.policy)
    _OfTheRun(wish, session).listen_to(trainer)


class _OfTheRun(Attachment):
    """Attached by us: its run files are those of the run that is under way."""

    def __init__(self, wish: Wish, session: Session) -> None:
        super().__init__(wish)
        self._session = session

    def on_train_start(self, trainer: Any) -> None:
        """Everything is built: attach."""
        self._session.contained("attaching to Ultralytics", self._begin, trainer)

    def _begin(self, trainer: Any) -> None:
        self._session.lead(
            trainer.model, trainer.optimizer, lambda run: self.train(trainer, replace(self.wish, run=run))
        )
