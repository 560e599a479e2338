"""The one stateful object: hooks go in, Readings and Findings come out, hooks come off.

`watch` observes and never changes a number; `guard` acts. Both return a `Monitor`.
"""

from __future__ import annotations

import html
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.assembly import tables_of, tell_ruined, tracks_of, watch_buffers
from steadygrad.capture import is_capturing
from steadygrad.errors import UsageError
from steadygrad.forensics import Forensics
from steadygrad.logbook import Logbook, Sink
from steadygrad.origin import Origin
from steadygrad.policies import Policy
from steadygrad.ranks import ReplicaGroups
from steadygrad.recording import recorded
from steadygrad.records import Finding, Reading
from steadygrad.recover import Rollback, among_ranks, in_words, make_checkpoints, make_rescue
from steadygrad.runfile.given import as_path
from steadygrad.stepping import Track, check_replica_groups, is_late, join_ranks, meet_ranks
from steadygrad.summary import Counts, copies_told, no_step_seen, summarise
from steadygrad.usage import asked_for, check_max_norm, check_sink, check_teller, policy_name, saved_tracks
from steadygrad.wiring import is_due, stale, trained_elsewhere

if TYPE_CHECKING:
    from typing_extensions import Self


class Monitor:
    """A training run under watch or guard; made by `watch` and `guard`.

    Attributes:
        mode: ``watch`` or ``guard``.
        closed: whether every hook has been taken off.
        recovers: whether it goes back to an earlier state when the present one is ruined.
    """

    def __init__(
        self,
        mode: str,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        policy: Policy | None,
        *,
        run: str | os.PathLike[str] | None,
        max_skips: int | None,
        overhead: float,
        late: bool | None = None,
        recover: Rollback | None = None,
        replica_groups: ReplicaGroups | None = None,
    ) -> None:
        """See `watch` and `guard`."""
        self.mode, self.closed = mode, False
        self._model = weakref.ref(model)
        self._by_hand = not optimizers
        book = self._logbook = Logbook()
        self._containment = book.containment
        tables = tables_of(model, optimizers)
        asked = in_words(recover) if mode == "guard" else ""
        told = (model, tables, mode, asked, book, replica_groups, policy, optimizers)
        met = self._containment.run("ranks", meet_ranks, *told)
        check_replica_groups(mode, met)
        recover = among_ranks(recover, met)
        self.recovers = recover is not None
        with recorded(book, run, mode, model, optimizers, policy, tables):
            put = partial(tracks_of, optimizers, tables, policy, book, recovers=self.recovers)
            tracks = self._tracks = put(max_skips=max_skips, overhead=overhead, late=late)
            guarded = policy is not None
            hear = book.spending.forward
            trace = partial(Forensics, model, guarded=guarded, replays=not replica_groups, on_call=hear)
            book.forensics = book.contained("tracing", trace)
            waits_not = any(is_late(table.params) for table in tables) if late is None else late
            join = partial(join_ranks, met, tracks, book, late=waits_not, groups=replica_groups)
            self._ranks = book.contained("ranks", join) or []
            plan = recover or Rollback()
            self._checkpoints = make_checkpoints(model, tracks, plan, self._ranks, late=waits_not, book=book)
            rescue = partial(make_rescue, model, tracks, recover, self._ranks, book=book)
            self._rescue = rescue(overhead=overhead, late=waits_not)
            book.listen(model, overhead=overhead, guarded=guarded)
            book.keep_bundles(model, tracks, plan)
            # The optimizers' hooks hold the logbook, and it holds us: nobody has to keep the monitor.
            book.listeners.append(("wiring check", self._after_step))
            self._elsewhere = trained_elsewhere(model, optimizers)
            self._check_wiring(0)
            self._containment.run("weights check", tell_ruined, tracks, book, mode)
            look = partial(watch_buffers, model, book, mode, self._rescue, late=waits_not)
            self._containment.run("buffers check", look)

    def __enter__(self) -> Self:
        """Use as a context manager: closed on the way out."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; an exception of the user's goes on its way."""
        self.close() if kind is None else self.detach()

    def __deepcopy__(self, memo: dict[int, Any]) -> Monitor:
        """A model that carries its monitor can be copied: the copy is not watched, the monitor is shared."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """A model that carries its monitor can be pickled: what comes back has None in its place."""
        return (_nothing, ())

    def __repr__(self) -> str:
        """Mode and counts in one line."""
        return f"<steadygrad {self.mode}: {self.counts.steps} steps, {len(self._logbook.findings)} findings>"

    @property
    def counts(self) -> Counts:
        """Steps seen, clipped, skipped."""
        self._logbook.settle()
        return self._logbook.counts

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything found so far, oldest first."""
        self._deliver()
        return tuple(self._logbook.findings)

    @property
    def last(self) -> Reading | None:
        """Reading of the newest step; None before the first."""
        self._deliver()
        return self._logbook.recent[-1] if self._logbook.recent else None

    @property
    def recent(self) -> tuple[Reading, ...]:
        """Readings of the newest steps, oldest first, at most `steadygrad.logbook.RECENT_READINGS`."""
        self._deliver()
        return tuple(self._logbook.recent)

    @property
    def policy(self) -> Policy | None:
        """The policy of the first optimizer; None for a watch."""
        return self._tracks[0].policy

    @property
    def run(self) -> str | None:
        """Path of the run file that is being written; None when nothing is recorded."""
        recorder = self._logbook.recorder
        return None if recorder is None else str(recorder.path)

    def log(self, **values: object) -> None:
        """Record named numbers beside the steps; a loss is best called ``loss``.

        Call it before ``optimizer.step()`` or after it, but a name always at the same place.

        Args:
            values: floats or one-element tensors. A tensor on an accelerator is copied in the
                background; nothing waits for it.

        Raises:
            UsageError: a value is not a single number.
        """
        if is_capturing():  # a captured tensor holds no number yet
            return
        loss = self._logbook.scalars.log([track.lane.step for track in self._tracks], values)
        if loss is not None:
            for track in self._tracks:
                track.lane.loss = loss

    def clip_(self, optimizer: Optimizer | None = None, *, max_norm: float | None = None) -> Tensor:
        """Measure and treat the gradients here, where ``clip_grad_norm_`` stood.

        In a loop without an optimizer this is the step: a non-finite gradient is set to zero, so
        that ``p.data.add_(p.grad, alpha=-lr)`` leaves the weights alone. With an optimizer its
        ``step`` finds the work done. A watch only measures.

        Args:
            optimizer: of several, the one that is about to step; None treats the gradients of all.
            max_norm: total norm that the loop clips to right after this call: the step is judged as it will be made.

        Returns:
            Total norm of all gradients before any scaling, 0-d, like ``clip_grad_norm_``.

        Example:
            >>> import torch, steadygrad as sg
            >>> model = torch.nn.Linear(4, 1)
            >>> guard = sg.guard(model, policy=sg.policies.clip_norm(1.0))
            >>> model(torch.ones(2, 4)).sum().backward()
            >>> round(float(guard.clip_()), 3)
            4.472
            >>> for p in model.parameters():
            ...     p.data.add_(p.grad, alpha=-0.1);    # doctest: +ELLIPSIS
            tensor(...
            tensor(...
        """
        if self.closed:
            raise UsageError(f"{self.mode}.clip_(): this {self.mode} is closed. Attach a new one first.")
        check_max_norm(f"{self.mode}.clip_", max_norm)
        tracks = self._tracks if optimizer is None else (self._track_of("clip_", optimizer),)
        norms = [track.clip_(max_norm) for track in tracks]
        total = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
        return total.to(torch.float32)

    def left_out(self, optimizer: Optimizer, *, surely: bool = False) -> None:
        """Call after ``scaler.step(optimizer)``: a step that a ``GradScaler`` left out is counted, its damage mended now.

        Args:
            optimizer: the one that may not have been asked to step.
            surely: it wasn't; else it was, unless `clip_` has measured a step that is still to come.

        Raises:
            UsageError: it is none that the guard was attached to.
        """
        if not self.closed:
            self._track_of("left_out", optimizer).left_out(surely=surely)

    @property
    def healthy(self) -> bool:
        """Whether every parameter, buffer and optimizer tensor is a finite number now; waits for the device.

        Where the weights are cut over several ranks every rank has to ask, and hears the same.
        """
        return not self._checkpoints.ill()

    def save(self, path: str | os.PathLike[str]) -> bool:
        """Save a checkpoint of model, optimizers, guard and random states, unless the state is ruined.

        The file is written beside the old one, read back, and takes its place at once: a kill at any
        instant leaves a whole file. What ``recover=sg.recover.rollback(...)`` was given is in it too. Weights that
        are cut over several ranks are written into a folder, as ``torch.distributed.checkpoint`` does, those of
        ``replica_groups=`` as one file a rank, and every rank has to call; see ``docs/howto/ranks.md``.

        Args:
            path: ``torch.load(path, weights_only=True)`` gives a dict with ``model``, ``optimizers``,
                ``guard``, ``random``, ``step``.

        Returns:
            Whether it was saved; where not, an older file is untouched, and a line on stderr says why.

        Raises:
            UsageError: a state dict holds what ``weights_only=True`` won't read.
            CheckpointFailed: one of several ranks couldn't write its part.
            RankLost: one of them has died, or hasn't called.
        """
        target = as_path(f"{self.mode}.save({path!r})", path, "a checkpoint", "'last.pt'")
        return self._checkpoints.save(target, self.counts.steps, self.state_dict())

    def protect(self, path: str | os.PathLike[str]) -> AbstractContextManager[Path]:
        """Protect a checkpoint of your own: ``with guard.protect(path) as file: torch.save(state, file)``.

        What is written to the path given inside takes the place of ``path`` whole, and only if the state of
        the training is finite.

        Raises:
            UsageError: nothing was written to the path given.
        """
        target = as_path(f"{self.mode}.protect({path!r})", path, "a checkpoint", "'last.pt'")
        return self._checkpoints.protect(target, self.counts.steps)

    def summary(self) -> str:
        """What happened so far, for a person."""
        self._deliver()
        explanations = [text for track in self._tracks if track.policy and (text := track.policy.explain())]
        book, rescue = self._logbook, self._rescue
        if rescue is not None and rescue.memory_bytes:
            explanations.append(copies_told(rescue.memory_bytes, rescue.snapshots))
        recorded = None if book.recorder is None or book.recorder.ended else self.run
        return summarise(self.mode, self.counts, book.findings, explanations, book.faults, recorded)

    def _repr_html_(self) -> str:
        """The summary, for a notebook."""
        return f"<pre style='white-space: pre-wrap'>{html.escape(self.summary())}</pre>"

    def state_dict(self) -> dict[str, Any]:
        """Everything learnt, to go on after a restart: step counters and the policies' statistics."""
        self._deliver()
        return {
            "tracks": [
                {**track.state_dict(), "policy_name": policy_name(track.policy)} for track in self._tracks
            ]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            UsageError: it is no such state, or that of a guard with other optimizers or another policy;
                nothing is changed then.
        """
        saved = saved_tracks(state, [policy_name(track.policy) for track in self._tracks])
        before = [track.state_dict() for track in self._tracks]
        try:
            for track, one in zip(self._tracks, saved, strict=True):
                track.load_state_dict(one)
        except Exception as error:
            for track, one in zip(self._tracks, before, strict=True):
                track.load_state_dict(one)
            raise UsageError(
                f"load_state_dict(): expected what state_dict() of such a {self.mode} returned; this state can't be "
                f"read ({type(error).__name__}: {error}). Load another checkpoint, or go on without."
            ) from error
        self._logbook.scalars.resume(max(track.lane.step for track in self._tracks))

    def close(self) -> None:
        """Take every hook off, write what is left, close the run file; a second call does nothing.

        Says so where not one step was seen: then nothing was watched.
        """
        was_open = not self.closed
        self.detach()
        if was_open and not self.counts.steps and not self._logbook.faults:
            self.say("no step", no_step_seen(self.mode, by_hand=self._by_hand))

    def detach(self) -> None:
        """Close without a word."""
        if self.closed:
            return
        self.closed = True
        if self._rescue is not None:
            self._rescue.close()
        for track in self._tracks:
            track.close()
        self._logbook.close()

    def send_to(self, sink: Sink) -> None:
        """Send every step, logged number and finding from here on to a logger too; `close` closes it.

        Args:
            sink: one of `steadygrad.sinks`. A fault in it switches it off, not the training.

        Raises:
            UsageError: it is no sink.
        """
        check_sink(self.mode, sink)
        self._logbook.sinks.append((f"sink {len(self._logbook.sinks)} ({type(sink).__name__})", sink))

    def tell_with(self, teller: Callable[[Finding], Finding]) -> None:
        """Have each finding pass through ``teller`` first: whoever knows the data can add what it knows.

        Raises:
            UsageError: it can't be called.
        """
        check_teller(self.mode, teller)
        self._logbook.tellers.append(teller)

    def tell(self, finding: Finding) -> None:
        """Take in what somebody else has found, as if it had been found here."""
        self._logbook.finding(finding)

    def explain(self, origin: Origin) -> None:
        """Take in where the fault of the step about to be made began; what is counted may be a step behind that one."""
        self._logbook.explain(self._tracks[0].lane.step, origin)

    def say(self, key: str, text: str) -> None:
        """One line on stderr, rate limited."""
        self._logbook.say(key, text)

    def _track_of(self, call: str, optimizer: Optimizer) -> Track:
        held = [track.optimizer for track in self._tracks]
        return self._tracks[asked_for(f"{self.mode}.{call}", held, optimizer, by_hand=self._by_hand)]

    def _deliver(self) -> None:
        if self._rescue is not None:
            self._rescue.between_steps = True
        for track in self._tracks:
            track.deliver()
        self._logbook.deliver()
        if self._rescue is not None:
            self._rescue.between_steps = False

    def _after_step(self, reading: Reading) -> None:
        # Of several optimizers the first to come to a step asks for all.
        if is_due(reading.step) and reading.step != self._wiring_checked:
            self._check_wiring(reading.step)

    def _check_wiring(self, step: int) -> None:
        self._wiring_checked = step
        found = stale(self._model(), self._tracks, step, self._logbook.findings, self._elsewhere)
        if found is not None:
            self._logbook.finding(found)


def _nothing() -> None:
    """What a pickled monitor comes back as."""
