"""The one collective a step: true norms over all ranks, and what each rank saw by itself.

Every rank puts its own sums of squares into one vector of float64, one ``all_reduce`` adds them up, and all
ranks go on with the same numbers to the last bit: what is decided from them is the same everywhere, without
another word. What belongs to one rank (its loss, its local gradient) has a place of its own in the vector that
the others leave at 0, so it arrives whole by the same sum.

Shape legend: P parameters, n ranks. Layout: squares ``[P]``, perhaps squares of parameters ``[P]``, losses
``[n]``, local squares ``[n]``, `Flags` of recovery ``[6]``, lag, fault: ``8 P + 16 n + 64`` bytes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steadygrad.measure import LateReads, is_sharded
from steadygrad.ranks.flags import SILENT, Flags
from steadygrad.ranks.local import LocalNorms
from steadygrad.ranks.peers import Peers
from steadygrad.ranks.shards import own_part, shares
from steadygrad.records import FloatArray

_NO_LOSS = -1e300
_NO_SQUARE = -1.0
_KEPT = 64
PATIENCE_S = 10.0
"""How long each rank is given to answer after a collective has failed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What each rank saw by itself in one step.

    Attributes:
        losses: ``[n]``; `NO_LOSS` where none was logged.
        norms: norm of a few local gradients, ``[n]``; NaN or Inf where they are, -1 where unknown.
        flags: what recovery has to say, added up over the ranks.
        lags: the losses are those of the step before.
    """

    step: int
    losses: FloatArray
    norms: FloatArray
    flags: Flags
    lags: bool

    @property
    def loss(self) -> float | None:
        """Mean of the losses that were logged, the same to the last bit on every rank; None without one."""
        logged = [loss for loss in self.losses.tolist() if loss != _NO_LOSS]
        if not logged:
            return None
        return math.fsum(logged) / len(logged) if all(map(math.isfinite, logged)) else math.nan


class Ranks:
    """This rank's side of the collective, for one optimizer.

    Args:
        peers: who takes part.
        params: the optimizer's parameters.
        late: they live on an accelerator: what the ranks saw is known one step late.
    """

    def __init__(self, peers: Peers, params: Sequence[Tensor], *, late: bool) -> None:
        self.peers = peers
        self.calls = 0
        self.bytes_sent = 0
        self.left = False
        self._logged: float | Tensor | None = None
        self._lags = False
        self._says = (-1, SILENT)
        self.sharded = any(map(is_sharded, params))
        self._params = params
        self._late = late
        self._shares = shares(params, peers.world)
        self._local = LocalNorms(params) if peers.replicated else None
        self._reads: LateReads[int] = LateReads()
        self._seen: deque[Seen] = deque(maxlen=_KEPT)

    def grow(self) -> None:
        """Take note that parameters were appended."""
        self._shares = shares(self._params, self.peers.world)

    def log(self, loss: float | Tensor, lags: bool) -> None:  # noqa: FBT001 - a callback of one call
        """This rank's own loss, for the next collective.

        Args:
            loss: a tensor where the host mustn't wait for it.
            lags: it was logged after its step, and belongs to the one before.
        """
        self._logged, self._lags = loss, lags

    def say(self, flags: Flags, step: int) -> None:
        """What recovery has to say in this step's collective; who doesn't say it anew has none."""
        self._says = step, flags

    def own_parts(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """This rank's parts, as plain tensors."""
        return [own_part(tensor) for tensor in tensors]

    def join(self, norms: Tensor, param_norms: Tensor | None, step: int) -> list[Tensor]:
        """Add up the squares of all ranks.

        Args:
            norms: of this rank's parts of the gradients, ``[P]``.
            param_norms: the same of the parameters, ``[P]``, or None.
            step: number of the optimizer's step.

        Returns:
            True norms ``[P]`` in float64, and those of the parameters if they were handed in.

        Raises:
            RankLost: a rank doesn't answer any more.
            RuntimeError: a rank has had a fault, or the collective failed; all ranks stop measuring together.
        """
        count = len(norms)
        share = self._shares.to(norms.device)
        sums = [one.to(torch.float64).square() * share for one in (norms, param_norms) if one is not None]
        vector = torch.cat([*sums, self._tail(norms.device, step)])
        self._add_up(vector)
        if self._note(vector[count * len(sums) :], step):
            self.left = True
            raise RuntimeError("the measuring of another rank has failed, so all ranks stop together")
        return [vector[i * count : (i + 1) * count].sqrt() for i in range(len(sums))]

    def leave(self, *, param_norms: bool) -> None:
        """This rank measures no more: tell the others in the collective they are waiting in, until they know.

        Args:
            param_norms: whether the step has the squares of the parameters too.
        """
        if self.left:
            return
        home = self._params[0].device
        count = len(self._params) * (2 if param_norms else 1)
        tail = self._tail(home, -1)
        tail[-1] = 1.0
        vector = torch.cat([torch.zeros(count, dtype=torch.float64, device=home), tail])
        self._add_up(vector)
        self.left = self._note(vector[count:], -1)

    def seen(self, step: int) -> Seen | None:
        """What the ranks saw in a step, while it is remembered."""
        return next((one for one in reversed(self._seen) if one.step == step), None)

    def loss(self, step: int) -> tuple[int, float] | None:
        """Mean loss of the ranks that came with a step's collective, and the step it belongs to."""
        # A closure that is called several times has several collectives, and the loss in the first.
        came = (one for one in self._seen if one.step == step and one.loss is not None)
        found = next(came, None)
        return None if found is None or found.loss is None else (step - found.lags, found.loss)

    @property
    def heard(self) -> Flags:
        """What recovery says in the newest step whose numbers are here, added up over the ranks."""
        return self._seen[-1].flags if self._seen else Flags()

    def close(self) -> None:
        """Take the hooks off; no word more to the others."""
        self.left = True
        if self._local is not None:
            self._local.close()

    def _tail(self, device: torch.device, step: int) -> Tensor:
        rank, world = self.peers.rank, self.peers.world
        loss, self._logged = self._logged, None
        said_at, flags = self._says
        numbers = [0.0] * (2 * world)
        numbers[rank] = loss if isinstance(loss, float) else _NO_LOSS
        numbers[world + rank] = _NO_SQUARE
        numbers += [*(flags if said_at == step else SILENT), float(self._lags), 0.0]
        tail = torch.tensor(numbers, dtype=torch.float64).to(device, non_blocking=True)
        if isinstance(loss, Tensor):
            tail[rank] = loss
        local = None if self._local is None else self._local.take()
        if local is not None:
            tail[world + rank] = local
        return tail

    def _add_up(self, vector: Tensor) -> None:
        if self.left:
            raise RuntimeError("the ranks have stopped measuring together")
        self.calls += 1
        self.bytes_sent += vector.numel() * vector.element_size()
        try:
            torch.distributed.all_reduce(vector)
        except Exception as error:
            self.left = True
            silent = self.peers.silent(str(self.calls), PATIENCE_S)
            if not silent:
                raise
            raise self.peers.lost(silent) from error

    def _note(self, tail: Tensor, step: int) -> bool:
        """Remember what the ranks saw; whether one of them has had a fault."""
        self._reads.send(tail, step)
        # On an accelerator the tail of the step before has arrived by now, on all ranks the same one.
        arrived = self._reads.take() if not self._late or self.calls > 1 else None
        if arrived is None:
            return False
        of_step, numbers = arrived
        world = self.peers.world
        with np.errstate(invalid="ignore"):
            squares = numbers[world : 2 * world]
            norms = np.where(squares == _NO_SQUARE, -1.0, np.sqrt(np.abs(squares)))
        *flags, lags, fault = numbers[2 * world :].tolist()
        # Perhaps one rank alone logs a loss: what holds for it holds for all.
        self._seen.append(Seen(of_step, numbers[:world].copy(), norms, Flags(*flags), lags > 0.0))
        return bool(fault != 0.0)
