"""What one optimizer step looked like on the device, before anything was changed.

Shape legend: P parameters the optimizer holds, p those of them that have a gradient (p <= P).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steadygrad.measure.hyper import GroupHyper
from steadygrad.records import BoolArray, FloatArray, TensorInfo

# Weights move by a few percent in ten steps at most, and what is built on their norms (relative
# caps) is uncritical within a factor of two.
PARAM_NORM_EVERY = 10


@dataclass(slots=True, eq=False)
class Measurement:
    """Norms of one step and what a policy needs to judge them.

    Nothing here has been read by the host except plain Python numbers the optimizer already kept
    there (learning rate, momentum).

    Attributes:
        norms: gradient norms ``[P]``, float32 (float64 where a finite norm needs it), unscaled;
            0 where there is no gradient.
        total_norm: norm of all gradients together, 0-d, unscaled.
        grads: the gradients themselves, ``p`` tensors, in the order of ``present``. They are still
            multiplied by ``grad_scale`` where that is set.
        present: position in ``norms`` of each of ``grads``; None when ``p == P``.
        params: the parameters, ``P`` tensors.
        tensors: name, shape and dtype of the parameters, ``P`` entries.
        param_norms: parameter norms ``[P]``, at most `PARAM_NORM_EVERY` steps old; None for a
            monitor that only watches.
        groups: learning rate, momentum and kind of each parameter group.
        group_of: index into ``groups`` of each parameter, ``P`` entries.
        grad_scale: factor the gradients are still multiplied by (AMP with a fused optimizer), 0-d,
            or None.
        absent: on the host: True where a parameter has no gradient, ``[P]``; None when every one has.
        known_total: ``total_norm`` where it is in host memory anyway; None on an accelerator. A policy may
            use it to leave a step alone without a single tensor operation.
        elsewhere: whether other ranks hold tensors of these that this one doesn't: then a step counts in which only they
            have gradients.
    """

    norms: Tensor
    total_norm: Tensor
    grads: Sequence[Tensor]
    present: Tensor | None
    params: Sequence[Tensor]
    tensors: Sequence[TensorInfo]
    param_norms: Tensor | None
    groups: Sequence[GroupHyper]
    group_of: Sequence[int]
    grad_scale: Tensor | None = None
    absent: BoolArray | None = None
    known_total: float | None = None
    elsewhere: bool = False

    def of_present(self, values: Tensor) -> Tensor:
        """The entries of a ``[P]`` tensor that belong to ``grads``, ``[p]``."""
        return values if self.present is None else torch.index_select(values, 0, self.present)

    def holders(self) -> list[int]:
        """Positions of the parameters that ``grads`` belong to, ``p`` of them."""
        absent = self.absent
        return [i for i in range(len(self.params)) if absent is None or not absent[i]]

    def host_norms(self) -> FloatArray:
        """``norms`` of a step that was measured in host memory."""
        norms: FloatArray = self.norms.numpy()
        return norms


class HostMeasurement(Measurement):
    """A Measurement of numbers that lie in host memory; they become tensors for whoever asks for tensors.

    A healthy step is judged by ``known_total`` alone, and making the two tensors takes longer than all of that.
    """

    __slots__ = ("own_norms",)
    own_norms: FloatArray

    @classmethod
    def of(cls, norms: FloatArray, total_norm: float, **rest: Any) -> HostMeasurement:
        """The same as the class itself, for norms ``[P]`` in host memory.

        Args:
            norms: norms ``[P]``.
            total_norm: norm of all gradients together.
            rest: ``grads``, ``params``, ``tensors``, ``groups``, ``group_of`` and ``elsewhere``; every parameter has a
                gradient.
        """
        made = cls.__new__(cls)
        made.own_norms, made.known_total = norms, total_norm
        made.present = made.param_norms = made.grad_scale = made.absent = None
        for name, value in rest.items():
            setattr(made, name, value)
        return made

    def host_norms(self) -> FloatArray:
        """``norms``, as they were measured."""
        return self.own_norms

    def __getattr__(self, name: str) -> Any:
        """Make ``norms`` or ``total_norm``: called only for what has no value yet."""
        if name == "norms":
            value = torch.from_numpy(self.own_norms)
        elif name == "total_norm":
            value = torch.from_numpy(np.asarray(self.known_total))
        else:
            raise AttributeError(name)
        setattr(self, name, value)
        return value
