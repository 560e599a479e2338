"""What softmax and loss operations are given during a pass, wherever in the user's code they stand.

A dispatch mode sees ``F.softmax``, ``tensor.softmax``, fused attention and every loss of ``torch.nn`` alike, with no
module to hook.

Shape legend: N rows, C choices (keys, classes), D features.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from steadygrad.checkup.size import root_mean_square

MASKED = -9999.0
"""Scores from here down were put there to be ignored: -inf, and the -10,000 of models that can't use it."""

MOST_SCORES = 262_144
"""Scores looked at of each softmax."""

_REGRESSIONS = frozenset({"mse_loss", "smooth_l1_loss", "huber_loss"})
_CLASSES = frozenset({"nll_loss_forward", "nll_loss2d_forward"})
_BINARY = frozenset({"binary_cross_entropy", "binary_cross_entropy_with_logits"})
# The same numbers, one for one, or some of them.
_SAME = frozenset(
    {"_to_copy", "clone", "_log_softmax", "_softmax", "sigmoid", "log_sigmoid_forward", "index"}
)


@dataclass(frozen=True, slots=True)
class Softmax:
    """One softmax.

    Attributes:
        module: qualified name of the module that called it, without torch's own softmax modules; None in the loss.
        choices: median number of choices that aren't masked.
        weight: mean of the largest probability of a row, counting as 0 where it falls on the first choice, on which
            trained attention rests by habit (a sink; Xiao et al. 2023, arXiv:2309.17453).
        spread: mean standard deviation of the scores of a row.
        scale: root mean square of the scores.
        fed: root mean square of what entered the module; NaN where that isn't known.
    """

    module: str | None
    choices: float
    weight: float
    spread: float
    scale: float
    fed: float


@dataclass(frozen=True, slots=True)
class Target:
    """What a loss compares with.

    Attributes:
        values: the targets that count, flat.
        given: what they were compared with, for a regression; None otherwise.
        classes: number of classes; 0 for a regression, 2 for a binary loss.
        direct: whether the loss was given the model's output itself.
    """

    values: Tensor
    given: Tensor | None
    classes: int
    direct: bool


class Overheard(TorchDispatchMode):
    """Listens; tell it which module runs by `entered` and `left`, and when the forward pass has `ended`.

    Attributes:
        softmaxes: in the order of their calls.
        targets: the same.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.softmaxes: list[Softmax] = []
        self.targets: list[Target] = []
        self._running: list[tuple[str, Tensor | None]] = []
        self._outputs: dict[int, Tensor] = {}

    def entered(self, name: str, module: nn.Module, given: Tensor | None) -> None:
        """A module's forward begins."""
        own = isinstance(module, (nn.Softmax, nn.LogSoftmax)) and self._running
        self._running.append(self._running[-1] if own else (name, given))

    def left(self) -> None:
        """It has ended."""
        self._running.pop()

    def ended(self, outputs: list[Tensor]) -> None:
        """The model has returned these; what follows is the loss."""
        self._running = []
        for output in outputs:
            self._follow(output)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation; look at it where it is one of those."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = _name(func)
        if name in _SAME and self._known(args[0]):
            self._follow(result[0] if isinstance(result, tuple) else result)
        look = _LOOKS.get(name)
        if look is not None:
            # We are inside of the user's forward pass: what we can't read must not end it.
            with contextlib.suppress(Exception):
                look(self, func, args, kwargs)
        return result

    def _follow(self, tensor: Tensor) -> None:
        # The tensor is kept, so that its storage's number is given to no other.
        self._outputs[tensor.untyped_storage()._cdata] = tensor

    def _known(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata in self._outputs

    def softmax(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Look at a plain softmax."""
        del func, kwargs
        scores = args[0].movedim(args[1], -1)
        self._score(scores.reshape(-1, scores.shape[-1]))

    def attention(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Scores of fused attention, which never exist whole: of the first sequences, and their last queries."""
        query, key = args[0], args[1]
        given = {
            entry.name: value for entry, value in zip(func._schema.arguments, args, strict=False)
        } | dict(kwargs)
        mask, causal = given.get("attn_mask", given.get("attn_bias")), bool(given.get("is_causal"))
        if query.dim() != 4 or key.shape[1] != query.shape[1]:
            return
        scale = given.get("scale") or 1.0 / math.sqrt(query.shape[-1])
        first = max(0, query.shape[2] - max(1, MOST_SCORES // max(1, key.shape[2] * query.shape[1])))
        scores = query[:1, :, first:].float() @ key[:1].float().transpose(-1, -2) * scale
        if isinstance(mask, Tensor):
            part = mask[:1, :, first:] if mask.dim() == 4 and mask.shape[2] > 1 else mask
            scores = scores.masked_fill(~part, -math.inf) if part.dtype == torch.bool else scores + part
        if causal:
            rows = torch.arange(first, query.shape[2], device=scores.device)
            seen = torch.arange(key.shape[2], device=scores.device)[None] <= rows[:, None]
            scores = scores.masked_fill(~seen, -math.inf)
        self._score(scores.reshape(-1, scores.shape[-1]))

    def _score(self, scores: Tensor) -> None:
        """Note one softmax over scores ``[N, C]``."""
        if not scores.numel() or scores.shape[1] < 2:
            return
        most = max(2, MOST_SCORES // scores.shape[1])
        some = scores.detach()[:: max(1, -(-len(scores) // most))].float()
        counts = (some > MASKED) & torch.isfinite(some)
        choices = counts.sum(1)
        top, at = some.softmax(1).max(1)
        masked = some.where(counts, 0.0)
        total = choices.clamp_min(1)
        mean = masked.sum(1) / total
        spread = ((masked - mean[:, None]).square().where(counts, 0.0).sum(1) / total).sqrt()
        module, given = self._running[-1] if self._running else (None, None)
        fed = root_mean_square(given) if given is not None and given.numel() else math.nan
        self.softmaxes.append(
            Softmax(
                module,
                float(choices.float().median()),
                float(torch.where(at > 0, top, 0.0).nan_to_num(0.0).mean()),
                float(spread.mean()),
                float((masked.square().sum() / total.sum()).sqrt()),
                fed,
            )
        )

    def loss(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Note what a loss compares with."""
        name, given, target = _name(func), args[0].detach(), args[1].detach()
        classes, compared = 0, None
        if name in _CLASSES:
            ignored = args[4] if len(args) > 4 else kwargs.get("ignore_index", -100)
            target, classes = target[target != ignored], given.shape[1 if given.dim() > 1 else 0]
        elif name in _BINARY:
            classes = 2
        else:
            compared = given
        self.targets.append(Target(target.reshape(-1), compared, classes, self._known(args[0])))


def _name(func: Any) -> str:
    return str(func._schema.name).rpartition("::")[2]


_LOOKS: dict[str, Callable[[Overheard, Any, tuple[Any, ...], Mapping[str, Any]], None]] = {
    "_softmax": Overheard.softmax,
    "_safe_softmax": Overheard.softmax,
    "_log_softmax": Overheard.softmax,
    "_scaled_dot_product_flash_attention_for_cpu": Overheard.attention,
    "_scaled_dot_product_flash_attention": Overheard.attention,
    "_scaled_dot_product_efficient_attention": Overheard.attention,
    **dict.fromkeys((*_REGRESSIONS, *_CLASSES, *_BINARY), Overheard.loss),
}
