"""Did anybody clear the gradients between two steps? Asked exactly, for the first few steps only.

Norms can't tell: a growing gradient and a pile of old ones look alike. So one or two small parameters
get a tensor hook that sees each *incoming* gradient before it is added. If ``.grad`` at the step is
what came in, it had been cleared; if it is that plus what stood there after the last step, it had not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from steadygrad.measure import LateReads

# Three steps in a row with the old gradient inside: nothing else does that by chance.
EVIDENCE_STEPS = 3
GIVE_UP_STEPS = 32
_PROBED = 2
_MAX_NUMEL = 65_536
# Relative distance within which two gradients are the same one (float16 rounding is 1e-3).
_SAME = 2e-3
_PARALLEL = 1e-4


class ZeroGradCheck:
    """Watches a few parameters until it is clear whether gradients are cleared.

    Args:
        params: the optimizer's parameters; the smallest dense ones are watched.
        late: the gradients live on an accelerator; conclusions then come one step late.
    """

    def __init__(self, params: Sequence[Tensor], *, late: bool) -> None:
        self._probes = [_Incoming(param) for param in _choose(params)]
        self._late = late
        self._reads: LateReads[None] = LateReads()
        self._kept_steps = 0
        self._steps = 0
        self.kept = False

    @property
    def running(self) -> bool:
        """Whether the question is still open."""
        return bool(self._probes)

    def gradients_ready(self) -> bool:
        """Compare; returns True in the step that proves gradients are never cleared."""
        self._steps += 1
        distances = [d for probe in self._probes if (d := probe.compare()) is not None]
        if distances:
            self._reads.send(torch.stack(distances).reshape(-1), None)
        if not self._late or self._steps > 1:
            self._conclude()
        if self._steps >= GIVE_UP_STEPS:
            self.close()
        return self.kept

    def stepped(self) -> None:
        """Remember what stands in ``.grad`` after the step."""
        for probe in self._probes:
            probe.keep()

    def close(self) -> None:
        """Take all hooks off."""
        for probe in self._probes:
            probe.handle.remove()
        self._probes = []

    def _conclude(self) -> None:
        arrived = self._reads.take()
        if arrived is None:
            return
        for cleared, kept, angle in arrived[1].reshape(-1, 3).tolist():
            if cleared < _SAME:
                self.close()
                return
            if kept < _SAME or angle < _PARALLEL:
                self._kept_steps += 1
                break
        if self._kept_steps >= EVIDENCE_STEPS:
            self.kept = True
            self.close()


class _Incoming:
    """One parameter: what came in since the last step, and what stood there after it."""

    def __init__(self, param: Tensor) -> None:
        self.param = param
        self.handle: RemovableHandle = param.register_hook(self._add)  # type: ignore[no-untyped-call]
        self._incoming: Tensor | None = None
        self._before: Tensor | None = None

    def _add(self, grad: Tensor) -> None:
        grad = grad.detach()
        self._incoming = grad.clone() if self._incoming is None else self._incoming + grad

    def keep(self) -> None:
        """Note what stands in ``.grad`` now."""
        grad = self.param.grad
        self._before = None if grad is None else grad.detach().clone()
        self._incoming = None

    def compare(self) -> Tensor | None:
        """``[3]``: relative distance of ``.grad`` to "cleared" and "kept", and 1 - cosine to "kept".

        The angle counts only where the old gradient points elsewhere than the new one: it sees
        through a clip or an unscaling between backward and step.
        """
        grad, incoming, before = self.param.grad, self._incoming, self._before
        if grad is None or incoming is None or before is None or grad.layout != torch.strided:
            return None
        grad, incoming, before = (x.detach().double().flatten() for x in (grad, incoming, before))
        both = incoming + before
        norm = torch.linalg.vector_norm(grad)
        distance_cleared = torch.linalg.vector_norm(grad - incoming) / norm
        distance_kept = torch.linalg.vector_norm(grad - both) / norm
        angle_kept = 1.0 - torch.nn.functional.cosine_similarity(grad, both, dim=0)
        angle_cleared = 1.0 - torch.nn.functional.cosine_similarity(grad, incoming, dim=0)
        apart = angle_cleared > 100.0 * _PARALLEL
        angle = torch.where(apart, angle_kept, torch.ones_like(angle_kept))
        # Where the old gradient is nothing, both stories are the same and neither is proved.
        proof = torch.where(distance_cleared < _SAME, torch.ones_like(norm), distance_kept)
        return torch.stack([distance_cleared, proof, angle])


def _choose(params: Sequence[Tensor]) -> list[Tensor]:
    fit = [
        param
        for param in params
        if param.requires_grad
        and param.is_leaf
        and not hasattr(param, "full_tensor")
        and param.is_floating_point()
        and 1 < param.numel() <= _MAX_NUMEL
        and param.device.type != "mps"
    ]
    return sorted(fit, key=lambda param: param.numel())[:_PROBED]
