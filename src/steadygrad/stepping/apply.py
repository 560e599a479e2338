"""Carry out a verdict on one step: scale, skip, lower the rate; and undo every trace of it after.

A fused optimizer takes the factor and the skip inside its own kernel through ``grad_scale`` and
``found_inf``, the two attributes a ``GradScaler`` uses: no extra pass over memory and nothing for the
host to read. All others get one ``_foreach_mul_``, and only when something is to be scaled.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from steadygrad.measure import Measurement, is_sharded
from steadygrad.stepping.withheld import Withheld

_UNSET = object()


def multiply_(grads: Sequence[Tensor], factors: Tensor) -> None:
    """Multiply gradients in place by one factor (0-d) or by one each (``[p]``)."""
    if not grads:  # other ranks have some
        return
    # Of a DTensor this rank's part: lists of plain tensors and DTensors, or of several meshes, are refused.
    if any(map(is_sharded, grads)):
        grads = [grad.to_local() if is_sharded(grad) else grad for grad in grads]  # type: ignore[attr-defined]
    if all(grad.layout == torch.strided and grad.device == factors.device for grad in grads):
        # Private names of torch, but the very calls its own clip_grad_norm_ makes.
        if factors.dim() == 0:
            torch._foreach_mul_(list(grads), factors)
        else:
            torch._foreach_mul_(list(grads), list(factors.unbind()))
        return
    each = factors.expand(len(grads)) if factors.dim() == 0 else factors
    for grad, factor in zip(grads, each.unbind(), strict=True):
        grad.mul_(factor.to(grad.device, non_blocking=True))


class _LoweredRate:
    """A group's learning rate, lowered for one step."""

    def __init__(self, group: dict[str, Any], factor: float) -> None:
        self._group = group
        self._factor = factor
        self._before = group["lr"]
        group["lr"] = self._before * factor
        self._lowered = group["lr"].clone() if isinstance(self._before, Tensor) else group["lr"]

    def restore(self) -> None:
        """Put the rate back; one that was set since is kept, rescaled if it was made of the lowered one."""
        group, before = self._group, self._before
        if isinstance(before, Tensor) and isinstance(group["lr"], Tensor):
            with torch.no_grad():
                now = group["lr"]
                since = torch.where(self._made_of_lowered(now), now / self._factor, now)
                group["lr"] = before.copy_(torch.where(now == self._lowered, before, since))
        elif not isinstance(before, Tensor) and not isinstance(group["lr"], Tensor):
            if group["lr"] == self._lowered:
                group["lr"] = before
            elif self._made_of_lowered(group["lr"]):
                group["lr"] /= self._factor

    def _made_of_lowered(self, now: Any) -> Any:
        # Some schedulers multiply the rate they find, others set it anew: nearer to which of the two?
        return now * now < self._lowered * self._before


class Applier:
    """What is done to one optimizer for the length of one step.

    Whatever is set before the step is put back by `restore` after it: gradients taken away, the
    learning rate, ``grad_scale`` and ``found_inf`` (put back, not deleted, where a ``GradScaler``
    set them: it deletes them itself).

    Args:
        optimizer: held weakly.
        withheld: gradients that are taken away from it; by default one of its own.
    """

    def __init__(self, optimizer: Optimizer, withheld: Withheld | None = None) -> None:
        self._optimizer = weakref.ref(optimizer)
        self.withheld = withheld or Withheld(optimizer)
        self._rates: list[_LoweredRate] = []
        self._attributes: dict[str, Any] = {}

    @property
    def loss_scale(self) -> Tensor | None:
        """Factor the gradients still carry: a ``GradScaler`` leaves unscaling to a fused step."""
        scale = self._theirs("grad_scale")
        return scale if isinstance(scale, Tensor) else None

    @property
    def under_scaler(self) -> bool:
        """Whether a ``GradScaler`` is stepping this (fused) optimizer now."""
        return self._theirs("found_inf") is not None

    def takes_fused(self) -> bool:
        """Whether every group runs the fused kernel, which reads ``grad_scale`` and ``found_inf``."""
        optimizer = self._optimizer()
        if optimizer is None or not getattr(optimizer, "_step_supports_amp_scaling", False):
            return False
        return all(group.get("fused") for group in optimizer.param_groups)

    def takes_fused_skip(self) -> bool:
        """Whether the fused kernel may skip: not before SGD's momentum buffers exist.

        The first fused SGD step allocates them uninitialised, and a skipping kernel leaves them so
        (torch 2.13 and 2.14): weights were seen to reach 2e35 one step later.
        """
        optimizer = self._optimizer()
        if optimizer is None or not self.takes_fused():
            return False
        return all(
            not group.get("momentum")
            or all(
                # `state` is a defaultdict: indexing it would leave an empty entry behind.
                optimizer.state.get(param, {}).get("momentum_buffer") is not None
                for param in group["params"]
                if param.grad is not None
            )
            for group in optimizer.param_groups
        )

    def scale_(self, measurement: Measurement, scale: Tensor) -> None:
        """Scale the gradients by ``scale``, 0-d or ``[P]``, in the kernel where that can be."""
        if scale.dim() == 0 and self.takes_fused():
            divisor = scale.to(torch.float32).reciprocal()
            carried = self.loss_scale
            self._set("grad_scale", divisor if carried is None else carried * divisor)
            return
        factors = scale if scale.dim() == 0 else measurement.of_present(scale)
        multiply_(measurement.grads, factors)

    def skip(self, measurement: Measurement) -> None:
        """Leave the step out: weights, state and counters stay as they are."""
        optimizer = self._optimizer()
        # Its own, since what has joined later may not be measured.
        held = (
            () if optimizer is None else [one for group in optimizer.param_groups for one in group["params"]]
        )
        self.withheld.take(held or measurement.params)

    def skip_where(self, nonfinite: Tensor) -> None:
        """Leave the step out on the device if ``nonfinite`` (0-d bool) holds; fused only."""
        flag = nonfinite.to(torch.float32)
        found = getattr(self._optimizer(), "found_inf", None)
        self._set("found_inf", flag if found is None else torch.maximum(found.to(flag.device), flag))

    def scale_lr(self, factor: float) -> None:
        """Multiply every group's learning rate for this step only."""
        optimizer = self._optimizer()
        if optimizer is None:
            return
        for group in optimizer.param_groups:
            self._rates.append(_LoweredRate(group, factor))

    def restore(self, *, ended: bool = False) -> None:
        """Put back what was set for the step; called after it has ``ended``, or some time after it raised.

        Until then a scheduler may have set another rate, and a backward pass other gradients: what is
        newer stays.
        """
        self.withheld.give_back(ended=ended)
        if not (self._rates or self._attributes):
            return
        for rate in self._rates:
            rate.restore()
        optimizer = self._optimizer()
        for name, before in self._attributes.items():
            if before is not _UNSET:
                setattr(optimizer, name, before)
            elif hasattr(optimizer, name):
                delattr(optimizer, name)
        self._rates.clear()
        self._attributes.clear()

    def _theirs(self, name: str) -> Any:
        """The attribute as it was before we set it."""
        value = self._attributes.get(name, getattr(self._optimizer(), name, None))
        return None if value is _UNSET else value

    def _set(self, name: str, value: Tensor) -> None:
        optimizer = self._optimizer()
        if optimizer is not None:
            self._attributes.setdefault(name, getattr(optimizer, name, _UNSET))
            setattr(optimizer, name, value)


class ClipCall(Applier):
    """The same for a verdict taken early, in the user's own ``guard.clip_()`` before the step.

    The user expects clipped gradients in ``.grad`` when the call returns, so they are scaled in
    place. A skip waits for the step itself: a ``GradScaler`` in between must still find gradients,
    and sets and deletes ``found_inf`` as if nobody else did.

    Args:
        optimizer: held weakly.
        withheld: gradients that are taken away from it; by default one of its own.
    """

    def __init__(self, optimizer: Optimizer, withheld: Withheld | None = None) -> None:
        super().__init__(optimizer, withheld)
        self._nonfinite: Tensor | None = None

    def scale_(self, measurement: Measurement, scale: Tensor) -> None:
        """Scale the gradients in place."""
        multiply_(measurement.grads, scale if scale.dim() == 0 else measurement.of_present(scale))

    def skip(self, measurement: Measurement) -> None:
        """Nothing yet; see `leave_out`."""

    def skip_where(self, nonfinite: Tensor) -> None:
        """Only noted; see `leave_out_where`."""
        self._nonfinite = nonfinite

    def leave_out(self, measurement: Measurement) -> None:
        """Leave the step out, now that it begins."""
        super().skip(measurement)

    def leave_out_where(self) -> None:
        """Leave it out on the device where `skip_where` said so."""
        if self._nonfinite is not None:
            super().skip_where(self._nonfinite)

    def restore(self, *, ended: bool = False) -> None:
        """Put back what was set for the step."""
        super().restore(ended=ended)
        self._nonfinite = None


class HandLoop:
    """The same for a loop that updates its parameters by hand and has no optimizer.

    A skipped step gets gradients of zero, not None: ``p.data.add_(p.grad, alpha=-lr)`` must still
    run, and without momentum a zero leaves the weights where they are.
    """

    loss_scale: Tensor | None = None
    under_scaler = False

    def takes_fused_skip(self) -> bool:
        """Never: there is no kernel."""
        return False

    def scale_(self, measurement: Measurement, scale: Tensor) -> None:
        """Scale the gradients in place."""
        multiply_(measurement.grads, scale if scale.dim() == 0 else measurement.of_present(scale))

    def skip(self, measurement: Measurement) -> None:
        """Set every gradient to zero."""
        for grad in measurement.grads:
            grad.zero_()

    def skip_where(self, nonfinite: Tensor) -> None:
        """Never called: `takes_fused_skip` is False."""
        del nonfinite

    def scale_lr(self, factor: float) -> None:
        """Nothing to lower: the rate is in the user's own line."""
        del factor

    def restore(self, *, ended: bool = False) -> None:
        """Nothing was borrowed."""


class LeftOut:
    """The same for a step that a ``GradScaler`` has left out by itself: there is nothing to do to it any more."""

    loss_scale: Tensor | None = None
    under_scaler = True

    def takes_fused_skip(self) -> bool:
        """It has been skipped: nobody need read whether."""
        return True

    def scale_(self, measurement: Measurement, scale: Tensor) -> None:
        """Nothing; it was left out."""

    def skip(self, measurement: Measurement) -> None:
        """Nothing; it was left out."""

    def skip_where(self, nonfinite: Tensor) -> None:
        """Nothing; it was left out."""

    def scale_lr(self, factor: float) -> None:
        """Nothing; it was left out."""

    def restore(self, *, ended: bool = False) -> None:
        """Nothing was borrowed."""
