"""The fixed thresholds that others use, on the same runs.

AUTOTRAINER (ICSE 2021; ``utils/monitor.py`` and the defaults of its ``reproduce.py``) and Amazon SageMaker Debugger's
rules at their defaults. Both look at the weights (tensors of two dimensions or more) between backward pass and step.

Shape legend: L weights in model order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

EPOCH = 25
"""Steps that stand for an epoch: AUTOTRAINER looks at its ends."""


@dataclass(frozen=True)
class Look:
    """One step as these rules see it.

    Attributes:
        step: its number.
        loss: its value.
        accuracy: share of right classes; None where there are none.
        norms: of each weight's gradient, ``[L]``.
        means: mean of its absolute value, ``[L]``.
        zeros: share of exactly zero gradient elements over all weights.
        ratios: mean absolute change over mean absolute value of each weight since the last look, ``[L]``.
        dead: largest share of inactive units over the ReLU layers.
        saturated: whether most of an activation's inputs lie beyond its thresholds.
        broken: a NaN or an Inf in loss, gradient or weight.
    """

    step: int
    loss: float
    accuracy: float | None
    norms: list[float]
    means: list[float]
    zeros: float
    ratios: list[float]
    dead: float
    saturated: bool
    broken: bool


class Probe:
    """Collects Looks beside a training; call `look` between steps."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = [param for param in model.parameters() if param.dim() > 1]
        self._before = [weight.detach().clone() for weight in self._weights]
        self._grads: list[Tensor | None] = []
        self._dead, self._saturated, self._output = 0.0, False, None
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(self._relu)
            elif isinstance(module, (nn.Tanh, nn.Sigmoid)):
                limits = (-9.4999, 9.4999) if isinstance(module, nn.Tanh) else (-23.0, 16.99999)
                module.register_forward_hook(self._bounded(limits))
        model.register_forward_hook(self._keep)

    def gradients(self, *_: object) -> None:
        """Keep the gradients of the step about to be made; a pre-hook of the optimizer."""
        self._grads = [None if w.grad is None else w.grad.detach().to_dense().float() for w in self._weights]
        self._grads = [None if g is None else g.clone() for g in self._grads]

    def look(self, step: int, loss: float, targets: object) -> Look:
        """What the step that has just been made looked like."""
        grads = [grad for grad in self._grads if grad is not None]
        norms = [float(grad.norm()) for grad in grads]
        total = sum(grad.numel() for grad in grads)
        now = [weight.detach().clone() for weight in self._weights]
        ratios = [_ratio(b, a) for b, a in zip(self._before, now, strict=True)]
        broken = not all(map(math.isfinite, [loss, *norms])) or any(not torch.isfinite(w).all() for w in now)
        look = Look(
            step,
            loss,
            _accuracy(self._output, targets),
            norms,
            [float(g.abs().mean()) for g in grads],
            sum(float((g == 0).sum()) for g in grads) / total if total else 0.0,
            ratios,
            self._dead,
            self._saturated,
            broken,
        )
        self._before, self._grads, self._dead, self._saturated = now, [], 0.0, False
        return look

    def _keep(self, module: nn.Module, args: object, output: object) -> None:
        del module, args
        self._output = output.detach() if isinstance(output, Tensor) else None

    def _relu(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        del module, args
        if output.dim() > 1:
            self._dead = max(self._dead, float((output.detach().flatten(1) <= 0).all(0).float().mean()))

    def _bounded(self, limits: tuple[float, float]) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            del module, output
            beyond = (args[0] <= limits[0]) | (args[0] >= limits[1])
            self._saturated |= bool(beyond.float().mean() > 0.5)

        return hook


def _ratio(before: Tensor, after: Tensor) -> float:
    return float((after - before).abs().float().mean() / (before.abs().float().mean() + 1e-30))


def _accuracy(output: object, targets: object) -> float | None:
    whole = isinstance(output, Tensor) and isinstance(targets, Tensor)
    if not whole or targets.dtype != torch.long or output.dim() != targets.dim() + 1:  # type: ignore[union-attr]
        return None
    guessed = output.argmax(-1)  # type: ignore[union-attr]
    return float((guessed == targets).float().mean()) if guessed.shape == targets.shape else None  # type: ignore[union-attr]


@dataclass
class AutoTrainer:
    """Vanishing, exploding, dying ReLU, oscillating loss, slow convergence, at the end of each epoch."""

    accuracies: list[float] = field(default_factory=list)
    epoch: list[float] = field(default_factory=list)

    def rules(self, look: Look, steps: int) -> list[str]:
        """Names of the rules that fire."""
        if look.broken:
            return ["exploding"]
        if look.accuracy is not None:
            self.epoch.append(look.accuracy)
        if (look.step + 1) % EPOCH or not look.norms:
            return []
        if self.epoch:
            self.accuracies.append(sum(self.epoch) / len(self.epoch))
            self.epoch.clear()
        if self.accuracies and max(self.accuracies) >= 0.6:
            return ["oscillating"] if self._oscillates(look.step, steps) else []
        return self._unconverged(look)

    def _unconverged(self, look: Look) -> list[str]:
        first, last = look.norms[0], look.norms[-1]
        ratio = first / last if last else math.inf
        if look.zeros >= 0.7:
            return ["dying"]
        if len(look.norms) > 1 and first > 0 and ratio > 70:
            return ["exploding"]
        if ratio < 1e-3 and first < 1e-4:
            return ["vanishing"]
        steps = [after - before for before, after in zip(self.accuracies, self.accuracies[1:], strict=False)]
        return ["slow"] if len(steps) > 2 and max(steps) < 0.01 else []

    def _oscillates(self, step: int, steps: int) -> bool:
        if step < 0.3 * steps or len(self.accuracies) < 3:
            return False
        pairs = zip(self.accuracies, self.accuracies[1:], strict=False)
        falls = sum(before - after >= 0.03 for before, after in pairs)
        return falls / len(self.accuracies) >= 0.2


@dataclass
class SageMaker:
    """Vanishing, exploding, dead ReLU, saturated, update ratio, unchanged, all zero, loss not decreasing."""

    losses: list[float] = field(default_factory=list)
    still: int = 0

    def rules(self, look: Look, steps: int) -> list[str]:
        """Names of the rules that fire."""
        del steps
        found = []
        if look.broken:
            return ["exploding"]
        if any(mean == 0.0 for mean in look.means):
            found.append("all zero")
        elif any(mean < 1e-7 for mean in look.means):
            found.append("vanishing")
        if look.dead > 0.5:
            found.append("dead")
        if look.saturated:
            found.append("saturated")
        if any(ratio > 10.0 or ratio < 1e-8 for ratio in look.ratios):
            found.append("update ratio")
        self.still = self.still + 1 if any(ratio < 1e-5 for ratio in look.ratios) else 0
        if self.still >= 3:
            found.append("unchanged")
        self.losses.append(look.loss)
        if len(self.losses) > 10 and self.losses[-11] - look.loss < 1e-3 * abs(self.losses[-11]):
            found.append("not decreasing")
        return found


RIGHT: dict[str, frozenset[str]] = {
    "vanishing": frozenset({"vanishing_gradient", "vanishing_in_time"}),
    "exploding": frozenset(
        {
            *("exploding_gradient", "exploding_in_time", "nonfinite_input", "nonfinite_activation"),
            *("nonfinite_loss", "nonfinite_gradient", "nonfinite_parameter", "overflow_streak", "divergence"),
        }
    ),
    "dying": frozenset({"dead_units"}),
    "dead": frozenset({"dead_units"}),
    "saturated": frozenset({"saturated_units"}),
    "oscillating": frozenset({"learning_rate_too_high", "loss_spike", "divergence"}),
    "slow": frozenset({"stalled_update"}),
    "update ratio": frozenset({"oversized_update", "stalled_update"}),
    "unchanged": frozenset({"stalled_update", "stale_optimizer"}),
    "all zero": frozenset({"dead_units", "single_class_softmax", "disconnected_loss"}),
    "not decreasing": frozenset({"divergence", "learning_rate_too_high"}),
}
"""What a rule's name may stand for, generously."""
