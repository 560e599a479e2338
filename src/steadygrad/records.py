"""The facts of a run as plain frozen data: numpy and the standard library, never torch.

Everything that detects, stores or draws speaks in these records, so a run recorded on a cluster
can be explained on a laptop.

Shape legend: P gradient tensors.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One optimizer step as the host sees it.

    All norms are L2, after unscaling (AMP) and before any clipping by steadygrad.

    Attributes:
        step: index of the step, counted from 0 like ``enumerate``, per optimizer.
        norms: gradient norm of every tensor, ``[P]``; NaN or Inf where the gradient holds one,
            0 where there is no gradient (see ``absent``). float32, or float64 where a finite norm
            is too large for float32.
        total_norm: norm of all gradients together.
        absent: True where ``.grad`` is None, ``[P]``; None when every tensor has a gradient.
        clip_coef: smallest factor applied to a gradient in this step; 1.0 is untouched.
        cap: the total norm above which this step would have been scaled; None without a cap. Of a step far below it
            the value may be that of up to eight steps earlier.
        skipped: the step was left out whole: weights, momentum, decay and counters stayed.
        overflow: the skip was a ``GradScaler`` looking for its scale, not a fault.
        lr: largest learning rate of the optimizer's groups, as the schedule set it.
        lr_factor: what steadygrad multiplied the learning rate by for this step only.
        optimizer: index of the optimizer that stepped.
        loss: the loss, where the user logged it for this step, before or after it.
        time_s: seconds since the run began.
        param_norms: parameter norms ``[P]``, only on the steps that measure them.
        update_norms: norms of the change the step made ``[P]``, only on the steps that measure it.
    """

    step: int
    norms: FloatArray
    total_norm: float
    absent: BoolArray | None = None
    clip_coef: float = 1.0
    cap: float | None = None
    skipped: bool = False
    overflow: bool = False
    lr: float = 0.0
    lr_factor: float = 1.0
    optimizer: int = 0
    loss: float | None = None
    time_s: float = 0.0
    param_norms: FloatArray | None = None
    update_norms: FloatArray | None = None

    @property
    def nonfinite(self) -> BoolArray:
        """True where a tensor's gradient holds a NaN or an Inf, ``[P]``."""
        return ~np.isfinite(self.norms)

    @property
    def clipped(self) -> bool:
        """Whether any gradient was scaled down in this step."""
        return self.clip_coef < 1.0


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing to change.

    Attributes:
        action: what to do, one sentence.
        code: the line or argument to change, ready to paste; empty where there is none.
    """

    action: str
    code: str = ""

    def __str__(self) -> str:
        """The action with its code behind it."""
        return f"{self.action}: {self.code}" if self.code else self.action


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know about the run.

    Attributes:
        kind: stable name in snake_case, a key of `steadygrad.catalog.CATALOG`.
        severity: ``info``, ``warning`` or ``error``.
        step: the step at which it began.
        where: qualified names of the parameters or modules, the most telling first.
        summary: one sentence for a person.
        evidence: the numbers behind it.
        causes: possible causes, the likeliest first.
        remedies: what to change, the best first.
        reference: paper or page that explains it.
        optimizer: index of the optimizer it was seen at.
    """

    kind: str
    severity: Severity
    step: int
    where: tuple[str, ...]
    summary: str
    evidence: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    causes: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    reference: str = ""
    optimizer: int = 0

    def __str__(self) -> str:
        """One line: severity, kind, step and summary."""
        return f"{self.severity}: {self.kind} at step {self.step}: {self.summary}"

    def _repr_html_(self) -> str:
        """What, where, the numbers, why, and what to change, for a notebook."""
        rows = {
            "where": ", ".join(self.where[:4]) + (" ..." if len(self.where) > 4 else ""),
            "numbers": ", ".join(f"{name} {value:.4g}" for name, value in self.evidence.items()),
            "why": " ".join(self.causes[:2]),
        }
        body = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in rows.items() if text)
        tries = "".join(
            f"<li>{html.escape(one.action)}<br><code>{html.escape(one.code)}</code></li>"
            for one in self.remedies
        )
        tries = f"<dt>try</dt><dd><ol>{tries}</ol></dd>" if tries else ""
        read = f"<dt>read</dt><dd>{html.escape(self.reference)}</dd>" if self.reference else ""
        return (
            f"<div style='overflow-wrap: anywhere'><b>{html.escape(self.severity)}: {html.escape(self.kind)}</b>, step {self.step}"
            f"<p>{html.escape(self.summary)}</p><dl>{body}{tries}{read}</dl></div>"
        )


@dataclass(frozen=True, slots=True)
class Incident:
    """Something steadygrad did, or had to give up.

    Attributes:
        step: step at which it happened.
        action: ``skip``, ``engage``, ``release``, ``rollback``, ``repair``, ``refuse``, ``stop`` or ``fault``
            (a fault of steadygrad's own that switched one of its parts off).
        reason: one sentence for a person.
        where: qualified names it concerns.
        optimizer: index of the optimizer.
    """

    step: int
    action: str
    reason: str
    where: tuple[str, ...] = ()
    optimizer: int = 0


@dataclass(frozen=True, slots=True)
class Passage:
    """The gradient on its way back through the time steps of one recurrent module, in one step of the training.

    Attributes:
        module: qualified name of the module.
        length: time steps there were.
        norms: gradient norm at `places`, relative to the largest; 0 where there is none.
        gain: fitted growth for each time step back.
    """

    module: str
    length: int
    norms: tuple[float, ...]
    gain: float

    @property
    def places(self) -> tuple[int, ...]:
        """Time steps that ``norms`` are about: the first, the last, and evenly spaced ones between."""
        return tuple(np.linspace(0, max(self.length - 1, 0), len(self.norms)).astype(int).tolist())


@dataclass(frozen=True, slots=True)
class Look:
    """What the signals inside the model were like in one step; a layer is named by what is fed to it.

    Attributes:
        step: index of the step, of the first optimizer.
        layers: weighted layers that were listened to; without any, shares and sizes are NaN.
        dead: largest share of a layer's inputs that are 0 for every sample.
        dead_in: the layer it is; the first of equals.
        dead_mean: mean share over the layers.
        saturated: largest share of a layer's inputs that lie at the ends of tanh or sigmoid.
        saturated_in: the layer it is.
        saturated_mean: mean share over the layers.
        largest: largest absolute input of a layer.
        largest_in: the layer it is.
        through_time: one entry a recurrent module.
    """

    step: int
    layers: int = 0
    dead: float = math.nan
    dead_in: str = ""
    dead_mean: float = math.nan
    saturated: float = math.nan
    saturated_in: str = ""
    saturated_mean: float = math.nan
    largest: float = math.nan
    largest_in: str = ""
    through_time: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One parameter of the run.

    Attributes:
        name: qualified name in the model, or ``group0.param3`` where the model doesn't know it.
        shape: its shape.
        dtype: dtype without the ``torch.`` in front.
        optimizer: index of the optimizer that updates it.
        trainable: whether it required a gradient when the run began.
    """

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    optimizer: int = 0
    trainable: bool = True

    @property
    def numel(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run was: recorded once, at its start.

    Attributes:
        name: name of the run, by default the stem of its file.
        mode: ``watch`` or ``guard``.
        policy: the policy, written as the call that makes it; empty for ``watch``.
        started: seconds since the epoch, UTC.
        model: class name of the model.
        optimizers: class name of each optimizer.
        tensors: parameters in the order of `Reading.norms` (model order, which for most models
            is forward order).
        versions: version by package name (``python``, ``torch``, ``numpy``, ``steadygrad``).
        command: the command line that ran.
        rank: rank of this process.
        world_size: number of processes.
    """

    name: str
    mode: str = "watch"
    policy: str = ""
    started: float = 0.0
    model: str = ""
    optimizers: tuple[str, ...] = ()
    tensors: tuple[TensorInfo, ...] = ()
    versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    command: tuple[str, ...] = ()
    rank: int = 0
    world_size: int = 1
