"""The one collective a step: true norms over all ranks, and what each rank saw by itself.

Every rank puts its own sums of squares into one vector, one ``all_reduce`` adds them up, and all ranks go on with the same
numbers to the last bit: what is decided from them is the same everywhere, without another word. What belongs to one rank
(its local gradient, whether its loss is finite) has a place of its own that the others leave at 0, so it arrives whole by
the same sum.

Shape legend: P parameters, n ranks. Layout, in float64: squares ``[P]``, sum of losses, small numbers three to a word
(`lanes`): 12 counts and one for each rank. On the one step in ten that has the parameters' squares too, in float32: squares
``[2 P]`` (`halves`), squares of parameters ``[P]``, sum of losses ``[2]``, the small numbers one to a word. So
``8 P + 8 + 8 ceil((12 + n) / 3)`` bytes, and ``12 P + 56 + 4 n``: at most ``16 P`` from ``P = n + 14`` on.

A float64's square can leave a float64's range, a parameter's that of a float32. In host memory such a norm is counted in place of
its square, and where any rank has one, all add them up once more in halves, 16 bytes a tensor. On an accelerator nobody looks, so
float64 parameters are always added up in halves there, 16 bytes a tensor, and on the one step in ten beside the norms of the step
before (`near`), 16 with the parameters' squares.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadygrad.containment import Containment
from steadygrad.measure import LateReads, Layout, is_sharded, own_part
from steadygrad.ranks.flags import SILENT, Flags
from steadygrad.ranks.halves import WIDE
from steadygrad.ranks.letter import Form, Letter
from steadygrad.ranks.local import LocalNorms
from steadygrad.ranks.peers import Peers
from steadygrad.ranks.seen import Seen
from steadygrad.ranks.sums import Sums
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
        layout: the rows of all ranks, where they hold different tensors.
        containment: holds back faults in the user's backward pass; None lets go of them without a word.

    Attributes:
        calls: steps that were added up.
        repeats: norms that had to be added up once more, because some left the range of their squares.
        bytes_sent: in both.
        joins: parameters have joined here that the other ranks have no rows for: told with each collective until `settled`.
    """

    def __init__(
        self,
        peers: Peers,
        params: Sequence[Tensor],
        *,
        late: bool,
        layout: Layout | None = None,
        containment: Containment | None = None,
    ) -> None:
        self.peers = peers
        self.calls = self.repeats = 0
        self.bytes_sent = 0
        self.left = self.joins = False
        self._asked = False
        self._settled_at = 0
        self._logged: float | Tensor | None = None
        self._lags = False
        self._says = (-1, SILENT)
        self._layout = layout
        self._params = params
        self._late = late
        self.grow()
        held = containment or Containment(lambda _: None)
        self._local = LocalNorms(params, late=late, containment=held) if peers.replicated else None
        self._form = Form(peers.rank, peers.world)
        self._reads: LateReads[int] = LateReads()
        self._seen: deque[Seen] = deque(maxlen=_KEPT)

    def grow(self) -> None:
        """Take note that parameters were appended."""
        self._cut = any(map(is_sharded, self._params))
        self.sharded = self._layout is not None or self._cut
        self._sums = Sums(self._params, self.peers.world, late=self._late, layout=self._layout)
        words = np.zeros(len(self._sums) + len(Letter(self.peers.rank, self.peers.world).on_host()))
        self._words, self._vector = words, torch.from_numpy(words)

    @property
    def asked(self) -> bool:
        """Whether parameters have joined on some rank: the same answer on all, at the end of the same step."""
        return self._asked

    def settled(self, layout: Layout | None) -> None:
        """All ranks have met on what has joined.

        Args:
            layout: the rows as they are now; None where they stay as they were.
        """
        self.joins = self._asked = False
        # On an accelerator a collective is under way that asks for what has been settled.
        self._settled_at = self.calls
        if layout is not None:
            self._layout = layout

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
        # Asking each tensor alone takes a tenth of what the guard adds.
        return [own_part(tensor) for tensor in tensors] if self._cut else list(tensors)

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
        letter = self._letter(step)
        sums = self._sums.split(norms, param_norms, letter)
        vector = self._add_up(sums, letter)
        repeats = self._asked_again(self._note(vector[len(sums) :], step))
        joined = self._sums.joined(vector[: len(sums)], with_weights=param_norms is not None)
        given = [norms] if param_norms is None else [norms, param_norms]
        return [
            self._repeated(own) if again else one
            for own, again, one in zip(given, repeats, joined, strict=False)
        ]

    def join_host(self, norms: FloatArray, step: int) -> NDArray[np.float64]:
        """`join` for numbers in host memory, without the parameters: nearly every step there.

        In numpy and in place: a call of torch's takes longer than these sums.
        """
        if not self._sums.plain:
            return self.join(torch.from_numpy(norms), None, step)[0].numpy()
        self._refuse_alone()
        words, count = self._words, len(norms)
        self._sums.square_into(norms, words[:count])
        self._fill(words[count:], step)
        self.calls += 1
        self.bytes_sent += words.nbytes
        self._reduce(self._vector, str(self.calls))
        # A copy, since the words are written anew at the next step.
        self._asked_again(self._remember(step, words[count:].copy()))
        true: NDArray[np.float64] = np.sqrt(words[:count])
        return true

    def leave(self, *, param_norms: bool) -> None:
        """This rank measures no more: tell the others in the collective they are waiting in, until they know.

        Args:
            param_norms: whether the step has the squares of the parameters too.
        """
        if self.left:
            return
        zeros = torch.zeros(len(self._sums), dtype=torch.float64, device=self._params[0].device)
        letter = self._letter(-1)
        letter.fault = True
        sums = self._sums.split(zeros, zeros if param_norms else None, letter)
        seen = self._note(self._add_up(sums, letter)[len(sums) :], -1)
        self.left = seen is not None and seen.fault

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

    def _fill(self, out: FloatArray, step: int) -> None:
        """Write what this rank has to say of itself at a step at which every parameter has a gradient in host memory."""
        loss, self._logged = self._logged, None
        local = None if self._local is None else self._local.take(complete=self._layout is None)
        said_at, flags = self._says
        self._form.fill(
            out,
            float(loss) if isinstance(loss, Tensor) else loss,
            float(local) if isinstance(local, Tensor) else local,
            flags if said_at == step else SILENT,
            self._lags,
            self.joins,
        )

    def _letter(self, step: int) -> Letter:
        """What this rank has to say of itself."""
        loss, self._logged = self._logged, None
        local = None if self._local is None else self._local.take()
        said_at, flags = self._says
        said = flags if said_at == step else SILENT
        return Letter(self.peers.rank, self.peers.world, loss, local, self._lags, said, joins=self.joins)

    def _asked_again(self, seen: Seen | None) -> tuple[bool, bool]:
        """Whether norms are to be added up once more: of the gradients, of the parameters."""
        if seen is None or seen.is_plain:
            return False, False
        if seen.fault:
            self.left = True
            raise RuntimeError("the measuring of another rank has failed, so all ranks stop together")
        return seen.outside

    def _repeated(self, norms: Tensor) -> Tensor:
        """True norms of any size, by a collective of their own; on every rank or on none."""
        self.repeats += 1
        sums = self._sums.wide(norms)
        self.bytes_sent += self._reduce(sums, f"{self.calls}/{self.repeats}")
        return WIDE.joined(sums)

    def _add_up(self, sums: Tensor, letter: Letter) -> Tensor:
        """The one collective of a step."""
        self._refuse_alone()
        vector = torch.cat([sums, letter.on_device(sums.dtype, sums.device)])
        self.calls += 1
        self.bytes_sent += self._reduce(vector, str(self.calls))
        return vector

    def _refuse_alone(self) -> None:
        if self.left:
            raise RuntimeError("the ranks have stopped measuring together")

    def _reduce(self, vector: Tensor, about: str) -> int:
        """Add up in place; how many bytes that is."""
        try:
            torch.distributed.all_reduce(vector)
        except Exception as error:
            self.left = True
            silent = self.peers.silent(about, PATIENCE_S)
            if not silent:
                raise
            raise self.peers.lost(silent) from error
        return vector.numel() * vector.element_size()

    def _note(self, tail: Tensor, step: int) -> Seen | None:
        """Remember what the ranks saw, and tell what there is to know by now."""
        if not self._late:
            return self._remember(step, tail.numpy().copy())  # of its own: the sums needn't be kept
        self._reads.send(tail, step)
        # The tail of the step before has arrived by now, on all ranks the same one.
        arrived = self._reads.take() if self.calls > 1 else None
        return None if arrived is None else self._remember(*arrived)

    def _remember(self, step: int, words: FloatArray) -> Seen:
        seen = Seen(step, words, self.peers.world)
        self._seen.append(seen)
        if self._layout is not None and seen.joins:
            self._asked = self._asked or self.calls - self._late > self._settled_at
        return seen
