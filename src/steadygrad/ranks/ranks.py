"""The one collective a step: true norms over all ranks, and what each rank saw by itself.

Every rank puts its own sums of squares into one vector of float64, one ``all_reduce`` adds them up, and all
ranks go on with the same numbers to the last bit: what is decided from them is the same everywhere, without
another word. What belongs to one rank (its loss, its local gradient) has a place of its own in the vector that
the others leave at 0, so it arrives whole by the same sum.

Shape legend: P parameters, n ranks. Layout: squares ``[P]``, perhaps squares of parameters ``[P]``, losses
``[n]``, local squares ``[n]``, `Flags` of recovery ``[6]``, lag, fault: ``8 P + 16 n + 64`` bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from steadygrad.measure import LateReads, is_sharded, own_part
from steadygrad.ranks.flags import SILENT, Flags
from steadygrad.ranks.local import LocalNorms
from steadygrad.ranks.peers import Peers
from steadygrad.ranks.seen import NO_LOSS, NO_SQUARE, Seen
from steadygrad.ranks.shards import shares
from steadygrad.records import FloatArray

_KEPT = 64
PATIENCE_S = 10.0
"""How long each rank is given to answer after a collective has failed."""


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
        given = [one for one in (norms, param_norms) if one is not None]
        vector = self._on_device(given, step) if self._late else self._on_host(given, step)
        self._add_up(vector)
        count = len(norms)
        if self._note(vector[count * len(given) :], step):
            self.left = True
            raise RuntimeError("the measuring of another rank has failed, so all ranks stop together")
        squares = [vector[i * count : (i + 1) * count] for i in range(len(given))]
        return [one.sqrt() if self._late else torch.from_numpy(np.sqrt(one.numpy())) for one in squares]

    def leave(self, *, param_norms: bool) -> None:
        """This rank measures no more: tell the others in the collective they are waiting in, until they know.

        Args:
            param_norms: whether the step has the squares of the parameters too.
        """
        if self.left:
            return
        zeros = torch.zeros(len(self._params), dtype=torch.float64, device=self._params[0].device)
        given = [zeros] * (2 if param_norms else 1)
        vector = self._on_device(given, -1)
        vector[-1] = 1.0
        self._add_up(vector)
        self.left = self._note(vector[len(zeros) * len(given) :], -1)

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

    def _on_host(self, norms: Sequence[Tensor], step: int) -> Tensor:
        """What this rank puts in. In numpy: in host memory a call of torch's takes longer than these sums."""
        share = self._shares.numpy()
        with np.errstate(over="ignore"):
            squares = [np.square(one.numpy(), dtype=np.float64) * share for one in norms]
        tail, under_way = self._tail(step)
        for place, number in under_way.items():
            tail[place] = number.item()
        return torch.from_numpy(np.concatenate([*squares, tail]))

    def _on_device(self, norms: Sequence[Tensor], step: int) -> Tensor:
        """The same where the host must not read."""
        device = norms[0].device
        share = self._shares.to(device)
        squares = [one.to(torch.float64).square() * share for one in norms]
        numbers, under_way = self._tail(step)
        tail = torch.tensor(numbers, dtype=torch.float64).to(device, non_blocking=True)
        for place, number in under_way.items():
            tail[place] = number
        return torch.cat([*squares, tail])

    def _tail(self, step: int) -> tuple[list[float], dict[int, Tensor]]:
        """What belongs to this rank alone, and by their place those numbers of it that the host doesn't know."""
        rank, world = self.peers.rank, self.peers.world
        loss, self._logged = self._logged, None
        local = None if self._local is None else self._local.take()
        said_at, flags = self._says
        numbers = [0.0] * (2 * world)
        numbers[rank] = NO_LOSS
        numbers[world + rank] = NO_SQUARE
        under_way = {}
        for place, number in ((rank, loss), (world + rank, local)):
            if isinstance(number, Tensor):
                under_way[place] = number
            elif number is not None:
                numbers[place] = number
        return [*numbers, *(flags if said_at == step else SILENT), float(self._lags), 0.0], under_way

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
        arrived: tuple[int, FloatArray] | None
        if self._late:
            self._reads.send(tail, step)
            # The tail of the step before has arrived by now, on all ranks the same one.
            arrived = self._reads.take() if self.calls > 1 else None
        else:
            arrived = step, tail.numpy().copy()
        if arrived is None:
            return False
        self._seen.append(Seen(*arrived, self.peers.world))
        return self._seen[-1].fault
