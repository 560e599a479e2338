"""timm: its scaler and its clip, with the norm kept.

An unmodified ``train.py`` is best run by ``steadygrad run [--guard] train.py ...``. In a script of your own,
the scaler here stands where ``timm.utils.NativeScaler`` stood.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steadygrad.errors import UsageError
from steadygrad.framework import require
from steadygrad.integrations.bounds import Handed, norm_bound

require("timm", "1.0", extra="timm")

from timm import utils  # noqa: E402 - asked for just above

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from steadygrad.monitor import Monitor


class NativeScaler(utils.NativeScaler):
    """``timm.utils.NativeScaler`` with a guard in it, or a watch.

    Gradients are measured, and the guard acts, after they are unscaled and before timm clips them. Its
    checkpoints are timm's.

    Args:
        guard: from `steadygrad.guard` or `steadygrad.watch`, attached to the optimizer.
        device: as for timm's own.

    Attributes:
        norm: total norm of the newest step before any clip, 0-d; None before the first.

    Raises:
        UsageError: ``guard`` is none.

    Example:
        >>> import steadygrad as sg                                                    # doctest: +SKIP
        >>> from steadygrad.integrations.timm import NativeScaler                      # doctest: +SKIP
        >>> loss_scaler = NativeScaler(sg.guard(model, optimizer), device="cuda")      # doctest: +SKIP
        >>> loss_scaler(loss, optimizer, clip_grad=1.0, parameters=model.parameters())    # doctest: +SKIP
    """

    def __init__(self, guard: Monitor, device: str = "cuda") -> None:
        if not callable(getattr(guard, "clip_", None)):
            raise UsageError(
                f"NativeScaler(guard): expected what steadygrad.guard(model, optimizer) returned, got "
                f"{type(guard).__name__}."
            )
        super().__init__(device=device)
        self.norm: Tensor | None = None
        self._guard = guard
        self._handed: Handed | None = None

    def __call__(
        self,
        loss: Tensor,
        optimizer: Optimizer,
        clip_grad: float | None = None,
        clip_mode: str = "norm",
        parameters: Iterable[Tensor] | None = None,
        create_graph: bool = False,  # noqa: FBT001, FBT002 - timm's own signature
        need_update: bool = True,  # noqa: FBT001, FBT002
    ) -> None:
        """As timm's: backward, and where ``need_update`` says so, clip, step and update the scale."""
        self._scaler.scale(loss).backward(create_graph=create_graph)
        if not need_update:
            return
        self._guard.log(loss=loss.detach())
        fused = self._scaler.is_enabled() and getattr(optimizer, "_step_supports_amp_scaling", False)
        if clip_grad is not None or not fused:
            # A fused optimizer unscales by itself, if nobody has to see its gradients before.
            self._scaler.unscale_(optimizer)
            given = _listed(parameters)
            if self._handed is None or self._handed.optimizer is not optimizer:
                self._handed = Handed(optimizer)
            whole = clip_mode == "norm" and self._handed.is_whole(given)
            self.norm = self._guard.clip_(optimizer, max_norm=norm_bound(clip_grad) if whole else None)
            parameters = None if parameters is None else given
        if clip_grad is not None:
            utils.dispatch_clip_grad(parameters, clip_grad, mode=clip_mode)
        self._scaler.step(optimizer)
        # Before the moving average follows, which would take in what an overflow has left in the running statistics.
        self._guard.left_out(optimizer)
        self._scaler.update()


def dispatch_clip_grad(
    parameters: Tensor | Iterable[Tensor], value: float, mode: str = "norm", norm_type: float = 2.0
) -> Tensor:
    """``timm.utils.dispatch_clip_grad``, which returns what timm throws away.

    Args:
        parameters: what to clip.
        value: as for timm's, by mode.
        mode: ``norm``, ``value`` or ``agc``.
        norm_type: p of the norm.

    Returns:
        Total norm before the clip, 0-d.
    """
    given = _listed(parameters)
    norm = torch.nn.utils.get_total_norm([p.grad for p in given if p.grad is not None], norm_type)
    utils.dispatch_clip_grad(given, value, mode=mode, norm_type=norm_type)
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return whole


def _listed(parameters: Tensor | Iterable[Tensor] | None) -> list[Tensor]:
    """To be walked through more than once."""
    if parameters is None or isinstance(parameters, Tensor):
        return [] if parameters is None else [parameters]
    return list(parameters)
