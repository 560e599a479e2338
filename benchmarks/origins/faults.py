"""Operations that make a non-finite number, each on a line of its own marked ``# here``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Fault:
    """One function with a fault in it.

    Attributes:
        function: keeps the shape of its argument.
        operations: names that are right.
        backward: whether it is the gradient that breaks.
    """

    function: Function
    operations: tuple[str, ...]
    backward: bool = False

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    @property
    def lineno(self) -> int:
        """The line marked ``# here``."""
        lines, first = inspect.getsourcelines(self.function)
        return first + next(i for i, line in enumerate(lines) if "# here" in line)


def log_of_negative(h: Tensor) -> Tensor:
    shifted = h - 1e4
    return torch.log(shifted)  # here


def log_of_zero(h: Tensor) -> Tensor:
    return torch.log(h * 0)  # here


def sqrt_of_negative(h: Tensor) -> Tensor:
    return torch.sqrt(-h.abs() - 1)  # here


def division_by_zero(h: Tensor) -> Tensor:
    zero = h * 0
    return (h + 1) / zero  # here


def exp_overflow(h: Tensor) -> Tensor:
    return torch.exp(h * 0 + 1e3)  # here


def power_of_negative(h: Tensor) -> Tensor:
    base = -h.abs() - 1
    return base**0.5  # here


def rsqrt_of_zero(h: Tensor) -> Tensor:
    return torch.rsqrt(h * 0)  # here


def acos_beyond_one(h: Tensor) -> Tensor:
    return torch.acos(h * 0 + 2)  # here


def cast_to_half(h: Tensor) -> Tensor:
    large = h.float() * 0 + 1e6
    return large.to(torch.float16).to(h.dtype)  # here


def spread_of_one(h: Tensor) -> Tensor:
    one = h.flatten(1)[:, :1]
    spread = one.var(1)  # here
    return h + spread.reshape(-1, *[1] * (h.dim() - 1))


def masked_softmax(h: Tensor) -> Tensor:
    nothing = h.masked_fill(torch.ones_like(h, dtype=torch.bool), float("-inf"))
    return torch.softmax(nothing, -1)  # here


def square_overflow(h: Tensor) -> Tensor:
    large = h.float() * 0 + 1e30
    return (large * large).to(h.dtype)  # here


def sum_overflow(h: Tensor) -> Tensor:
    large = h.float() * 0 + 3e38
    total = torch.cat([large, large], 1).flatten(1).sum(1)  # here
    return h + total.reshape(-1, *[1] * (h.dim() - 1))


def inverse_sine(h: Tensor) -> Tensor:
    return torch.asin(h * 0 - 3)  # here


def infinity_minus_infinity(h: Tensor) -> Tensor:
    first = torch.full_like(h, float("inf"))
    return h + (first - first)  # here


def sqrt_at_zero(h: Tensor) -> Tensor:
    return h + torch.sqrt(h * 0)  # here


def norm_of_zeros(h: Tensor) -> Tensor:
    nothing = (h * 0).flatten(1)
    length = (nothing * nothing).sum(1).sqrt()  # here
    return h + length.reshape(-1, *[1] * (h.dim() - 1))


def asin_at_one(h: Tensor) -> Tensor:
    return h + torch.asin(h * 0 + 1)  # here


def hidden_rsqrt(h: Tensor) -> Tensor:
    zero = h * 0
    return torch.where(zero > 0, torch.rsqrt(zero), h)  # here


def acos_at_one(h: Tensor) -> Tensor:
    return h + torch.acos(h * 0 + 1)  # here


def power_at_zero(h: Tensor) -> Tensor:
    return h + (h * 0) ** 0.5  # here


def hidden_log(h: Tensor) -> Tensor:
    zero = h * 0
    return torch.where(zero > 0, torch.log(zero), h)  # here


def hidden_division(h: Tensor) -> Tensor:
    zero = h * 0
    return torch.where(zero != 0, h / zero, h)  # here


def hidden_exp(h: Tensor) -> Tensor:
    large = h.float() * 0 + 1e3
    return torch.where(large < 0, torch.exp(large), h.float()).to(h.dtype)  # here


def spread_of_equals(h: Tensor) -> Tensor:
    equal = torch.cat([h * 0, h * 0], 1).flatten(1)
    spread = equal.var(1).sqrt()  # here
    return h + spread.reshape(-1, *[1] * (h.dim() - 1))


FORWARD = (
    Fault(log_of_negative, ("aten.log",)),
    Fault(log_of_zero, ("aten.log",)),
    Fault(sqrt_of_negative, ("aten.sqrt",)),
    Fault(division_by_zero, ("aten.div",)),
    Fault(exp_overflow, ("aten.exp",)),
    Fault(power_of_negative, ("aten.pow",)),
    Fault(rsqrt_of_zero, ("aten.rsqrt",)),
    Fault(acos_beyond_one, ("aten.acos",)),
    Fault(cast_to_half, ("aten.to_copy",)),
    Fault(spread_of_one, ("aten.var",)),
    Fault(masked_softmax, ("aten.softmax",)),
    Fault(square_overflow, ("aten.mul",)),
    Fault(sum_overflow, ("aten.sum",)),
    Fault(inverse_sine, ("aten.asin",)),
    Fault(infinity_minus_infinity, ("aten.sub",)),
)

BACKWARD = (
    Fault(sqrt_at_zero, ("SqrtBackward0",), backward=True),
    Fault(norm_of_zeros, ("SqrtBackward0",), backward=True),
    Fault(asin_at_one, ("AsinBackward0",), backward=True),
    Fault(hidden_rsqrt, ("RsqrtBackward0",), backward=True),
    Fault(acos_at_one, ("AcosBackward0",), backward=True),
    Fault(power_at_zero, ("PowBackward0",), backward=True),
    Fault(hidden_log, ("LogBackward0",), backward=True),
    Fault(hidden_division, ("DivBackward0",), backward=True),
    Fault(hidden_exp, ("ExpBackward0",), backward=True),
    Fault(spread_of_equals, ("SqrtBackward0",), backward=True),
)


def _causal(h: Tensor) -> Tensor:
    flat = h.flatten(1)
    scores = flat @ flat.T
    mask = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return h + (scores.masked_fill(mask, float("-inf")).softmax(-1) @ flat).reshape(h.shape)


def _added_mask(h: Tensor) -> Tensor:
    flat = h.flatten(1)
    scores = flat @ flat.T
    mask = torch.full_like(scores, float("-inf")).triu(1)
    return h + ((scores + mask).softmax(-1) @ flat).reshape(h.shape)


def _scaled_after_masking(h: Tensor) -> Tensor:
    flat = h.flatten(1)
    scores = (flat @ flat.T).masked_fill(torch.ones(len(h), len(h), dtype=torch.bool).triu(1), -torch.inf)
    return h + ((scores * 0.1).softmax(-1) @ flat).reshape(h.shape)


def _log_masked(h: Tensor) -> Tensor:
    flat = h.flatten(1)
    logits = flat.masked_fill(torch.arange(flat.shape[1]) > 1, -torch.inf)
    return h + F.nll_loss(logits.log_softmax(-1), torch.zeros(len(h), dtype=torch.long))


def _largest(h: Tensor) -> Tensor:
    start = h.new_full((1,), -torch.inf)
    return torch.maximum(h, start)


def _left_out(h: Tensor) -> Tensor:
    with torch.no_grad():
        torch.log(h * 0)
    return h


def _unwritten(h: Tensor) -> Tensor:
    out = torch.empty_like(h)
    out.copy_(h)
    return out * 1.0


def _attention(h: Tensor) -> Tensor:
    flat = h.flatten(1)[None, None]
    return h + F.scaled_dot_product_attention(flat, flat, flat, is_causal=True).reshape(h.shape)


def _replaced(h: Tensor) -> Tensor:
    return torch.nan_to_num(torch.log((h * 0).detach()), neginf=0.0) + h


def _clamped(h: Tensor) -> Tensor:
    return torch.exp(-torch.full_like(h, torch.inf)) + h


LEGAL = (
    _causal,
    _added_mask,
    _scaled_after_masking,
    _log_masked,
    _largest,
    _left_out,
    _unwritten,
    _attention,
    _replaced,
    _clamped,
)
"""Functions full of infinities that hurt nobody."""
