"""Did anybody clear the gradients between two steps? Asked exactly, for the first few steps only.

Norms can't tell: a growing gradient and a pile of old ones look alike. So one or two small parameters
get a tensor hook that sees each *incoming* gradient before it is added. If ``.grad`` at the step is
what came in, it had been cleared; if it is that plus what stood there after the last step, it had not.
A clip or an unscaling in between multiplies both parts alike, so it is their proportion that tells. With
DistributedDataParallel what came in is this rank's alone, and ``.grad`` the mean of all: there it tells that the old
gradient still stood there, untouched, when the only one of the step came in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from steadygrad.capture import is_capturing
from steadygrad.measure import LateReads

# Three steps in a row with the old gradient inside: nothing else does that by chance.
EVIDENCE_STEPS = 3
GIVE_UP_STEPS = 32
_PROBED = 2
_MAX_NUMEL = 65_536
# With three elements or fewer, two gradients explain nearly any third one.
_MIN_NUMEL = 4
# Relative distance within which two gradients are the same one.
_SAME = 2e-3
# How far the share of the old gradient may be from 0 (cleared) or 1 (kept).
_SHARE_TOLERANCE = 0.1


class ZeroGradCheck:
    """Watches a few parameters until it is clear whether gradients are cleared.

    Args:
        params: the optimizer's parameters; the smallest dense ones are watched.
        late: the gradients live on an accelerator; conclusions then come one step late.

    Attributes:
        kept: whether it has been proved that nobody clears them.
        running: whether the question is still open.
    """

    def __init__(self, params: Sequence[Tensor], *, late: bool) -> None:
        self._probes = [_Incoming(param) for param in _choose(params)]
        self._late = late
        self._reads: LateReads[None] = LateReads()
        self._kept_steps = 0
        self._steps = 0
        self.kept = False
        self.running = bool(self._probes)

    def gradients_ready(self) -> bool:
        """Compare; returns True in the step that proves gradients are never cleared."""
        self._steps += 1
        if any(probe.was_cleared for probe in self._probes):
            self.close()
            return False
        distances = [d for probe in self._probes if (d := probe.compare()) is not None]
        if distances:
            self._reads.send(torch.stack(distances).reshape(-1), None)
        if not self._late or self._steps > 1:
            self._conclude()
        if self._steps >= GIVE_UP_STEPS:
            self.close()
        return self.kept

    def stepped(self, is_left_standing: bool = False) -> None:  # noqa: FBT001, FBT002 - called by way of `Containment.run`
        """Remember what stands in ``.grad`` after the step; it proves nothing where we are to zero it ourselves."""
        for probe in self._probes:
            probe.keep(proves=not is_left_standing)

    def close(self) -> None:
        """Take all hooks off."""
        for probe in self._probes:
            probe.remove()
        self._probes = []
        self.running = False

    def _conclude(self) -> None:
        arrived = self._reads.take()
        if arrived is None:
            return
        verdicts = arrived[1].reshape(-1, 2)
        if verdicts[:, 0].any():
            self.close()
            return
        self._kept_steps += int(verdicts[:, 1].any())
        if self._kept_steps >= EVIDENCE_STEPS:
            self.kept = True
            self.close()


class _Incoming:
    """One parameter: what came in since the last step, and what stood there after it."""

    def __init__(self, param: Tensor) -> None:
        self.param = param
        self._handles: list[RemovableHandle] = [
            param.register_hook(self._meet),  # type: ignore[no-untyped-call]
            param.register_post_accumulate_grad_hook(self._add),  # type: ignore[no-untyped-call]
        ]
        self._met: tuple[Tensor, Tensor | None] | None = None
        self._incoming: Tensor | None = None
        self._before: Tensor | None = None
        self._standing: Tensor | None = None
        self.was_cleared = False

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _meet(self, grad: Tensor | None) -> None:
        # This runs inside the user's backward pass: nothing that could fail may happen here. Without a gradient for
        # this one torch calls it all the same.
        if grad is None or grad.layout != torch.strided or is_capturing():
            return
        there = self.param.grad
        first = self._incoming is None and self._before is not None
        kept = there is not None and there.layout == torch.strided and first
        self._met = grad.detach().clone(), there.detach().clone() if kept and there is not None else there

    def _add(self, param: Tensor) -> None:
        """What has been met was added to ``.grad``, and not only asked for, as by ``torch.autograd.grad``."""
        del param
        if self._met is None:
            return
        (grad, there), self._met = self._met, None
        self._standing = None
        if self._incoming is None and self._before is not None:
            self.was_cleared = there is None
            if there is not None and there.layout == torch.strided:
                self._standing = there
        self._incoming = grad if self._incoming is None else self._incoming + grad

    def keep(self, *, proves: bool = True) -> None:
        """Note what stands in ``.grad`` now, if it ``proves`` anything."""
        grad = self.param.grad if proves else None
        self._before = None if grad is None else grad.detach().clone()
        self._incoming = self._met = None

    def compare(self) -> Tensor | None:
        """``[2]``: 1 where the old gradient is proved to be gone, and where to be still inside."""
        if self._incoming is None:
            # A step made in a hook of the script's own, which was there before ours; or gradients that were only asked
            # for, and put there by hand: then what stood there while they were asked for need not be in them.
            self._add(self.param)
            self._standing = None
        grad, incoming, before = self.param.grad, self._incoming, self._before
        if grad is None or incoming is None or before is None or grad.layout != torch.strided:
            return None
        eps = torch.finfo(grad.dtype).eps
        grad, incoming, before = (x.detach().double().flatten() for x in (grad, incoming, before))
        near = max(_SAME, 2.0 * eps) * torch.linalg.vector_norm(grad)
        is_new = torch.linalg.vector_norm(grad - incoming) < near
        is_both = torch.linalg.vector_norm(grad - incoming - before) < near
        share, is_sure = _share_of_old(grad, incoming, before, 8.0 * eps)
        gone = (is_new & ~is_both) | (is_sure & (share.abs() < _SHARE_TOLERANCE))
        inside = (is_both & ~is_new) | (is_sure & ((share - 1.0).abs() < _SHARE_TOLERANCE))
        if self._standing is not None:
            standing = self._standing.double().flatten()
            stood = (standing == before).all() & (torch.linalg.vector_norm(before) > 0.0)
            stood = stood & ~is_new  # whoever takes the old one out again has what came in alone
            gone, inside = gone & ~stood, inside | stood
        return torch.stack([gone, inside]).double()


def _share_of_old(grad: Tensor, new: Tensor, old: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """``b / a`` of ``grad = a * new + b * old``, 0-d, and whether the numbers are good enough to tell.

    They aren't where something else was added on the way, and where old and new are parallel.
    """
    along = torch.dot(old, new) / torch.dot(new, new)
    apart = old - along * new
    b = torch.dot(grad, apart) / torch.dot(apart, apart)
    a = torch.dot(grad, new) / torch.dot(new, new) - b * along
    noise = tolerance * torch.linalg.vector_norm(grad)
    explained = torch.linalg.vector_norm(grad - a * new - b * old) < noise
    length = torch.linalg.vector_norm(apart)
    # What rounding leaves of two that are parallel says nothing, however much longer the one is.
    are_apart = length > tolerance * torch.linalg.vector_norm(old)
    return b / a, explained & are_apart & (a.abs() * length > noise / _SHARE_TOLERANCE)


def _choose(params: Sequence[Tensor]) -> list[Tensor]:
    fit = [
        param
        for param in params
        if param.requires_grad
        and not torch.nn.parameter.is_lazy(param)
        and param.is_leaf
        and not hasattr(param, "full_tensor")
        and param.is_floating_point()
        and _MIN_NUMEL <= param.numel() <= _MAX_NUMEL
        and param.device.type != "mps"
    ]
    return sorted(fit, key=lambda param: param.numel())[:_PROBED]
