"""Operations that make a non-finite number out of finite ones: why, and what to write instead."""

from __future__ import annotations

from typing import NamedTuple

from steadygrad.catalog.entry import GUARD_CODE
from steadygrad.records import Remedy


class Advice(NamedTuple):
    """What is known about one operation.

    Attributes:
        cause: why it has no finite value, or no finite derivative, there.
        remedy: what to write instead.
    """

    cause: str
    remedy: Remedy


_LOG = Advice(
    "The logarithm of 0 or of a negative number.", Remedy("Keep it above 0", "torch.log(x.clamp_min(1e-12))")
)
_ROOT = Advice(
    "The square root has no finite slope at 0, and no value below.",
    Remedy("Keep the root away from 0", "torch.sqrt(x.clamp_min(0) + 1e-12)"),
)
_DIVISION = Advice(
    "A division by 0, or 0 / 0: an empty mean, a norm or a count of zero.",
    Remedy("Keep the divisor away from 0", "x / y.clamp_min(1e-12)"),
)
_EXPONENT = Advice(
    "The exponential passes float32's range above 88, float16's above 11.",
    Remedy("Use the form that subtracts the largest value", "torch.logsumexp(x, dim=-1)"),
)
_POWER = Advice(
    "A power of 0 with an exponent below 1 (or a negative base with a broken exponent), or one out of range.",
    Remedy("Keep the base away from 0", "x.clamp_min(1e-12).pow(exponent)"),
)
_ARC = Advice(
    "The slope of acos and asin has no bound at -1 and 1, and no value beyond.",
    Remedy("Stay inside the open interval", "torch.acos(x.clamp(-1 + 1e-6, 1 - 1e-6))"),
)
_ANGLE = Advice(
    "The angle of a vector of length 0 has no slope: 0 / 0.",
    Remedy("Keep one side away from 0", "torch.atan2(y, torch.where(x.abs() < 1e-12, 1e-12, x))"),
)
_NORM = Advice(
    "The norm of a vector of zeros has no slope.",
    Remedy("Put a floor under it", "torch.sqrt((x * x).sum(-1) + 1e-12)"),
)
_SOFTMAX = Advice(
    "Every entry of a softmax row is -Inf (a row masked completely), or one is Inf or NaN.",
    Remedy(
        "Leave one entry of each row open, or zero such rows",
        "mask = mask | mask.logical_not().all(-1, keepdim=True)",
    ),
)
_ATTENTION = Advice(
    "A row of the attention mask leaves nothing to attend to.",
    Remedy("Let every row attend to something", "mask = mask | torch.eye(length, dtype=torch.bool)"),
)
_SPREAD = Advice(
    "The spread of equal numbers has no slope at 0; that of one number has no value at all.",
    Remedy("Use the variance with a floor", "torch.sqrt(x.var(-1, correction=0) + 1e-12)"),
)
_CAST = Advice(
    "The value is too large for the narrower dtype: float16 ends at 65,504.",
    Remedy("Keep this part in float32", 'with torch.autocast("cuda", enabled=False): y = layer(x.float())'),
)
_PRODUCT = Advice(
    "The products have grown past the dtype's range: weights or activations have exploded before.",
    Remedy("Bound the steps", GUARD_CODE),
)
_MEAN = Advice(
    "The mean of nothing: an empty batch, or a mask that leaves nothing.",
    Remedy("Divide by at least 1", "x.sum() / max(x.numel(), 1)"),
)
_NORMALISATION = Advice(
    "The input is too large to be squared, or there is only one value to normalise over.",
    Remedy("Look at what comes in", "print(x.abs().max(), x.shape)"),
)
_INVERSE = Advice(
    "The matrix is singular, or nearly.",
    Remedy("Put a small number on its diagonal", "a + 1e-6 * torch.eye(n)"),
)
_BESIDE = Advice(
    "What the loss compares the output with isn't finite: a target that is NaN, or what the loss has made of targets "
    "(the logarithm of 0, a division by a spread of 0).",
    Remedy(
        "Leave out targets that have no value there",
        "valid = target > 0; loss = loss_fn(output[valid], target[valid])",
    ),
)
_FACTOR = Advice(
    "A number computed beside the graph has no finite value: returns divided by a spread of 0 (or that of one return), "
    "weights that sum to 0, the mean of nothing.",
    Remedy(
        "Keep the divisor away from 0",
        "returns = (returns - returns.mean()) / (returns.std(correction=0) + 1e-8)",
    ),
)

ADVICE: dict[str, Advice] = {
    **dict.fromkeys(("log", "log2", "log10", "log1p", "xlogy", "binary_cross_entropy"), _LOG),
    **dict.fromkeys(("sqrt", "rsqrt"), _ROOT),
    **dict.fromkeys(("div", "reciprocal", "true_divide", "remainder", "fmod"), _DIVISION),
    **dict.fromkeys(("exp", "exp2", "expm1", "sinh", "cosh", "logsumexp"), _EXPONENT),
    **dict.fromkeys(("pow", "float_power"), _POWER),
    **dict.fromkeys(("acos", "asin", "atanh", "acosh"), _ARC),
    **dict.fromkeys(("atan2", "angle"), _ANGLE),
    **dict.fromkeys(("norm", "linalg_vector_norm", "linalg_norm", "cdist", "cdist_forward", "dist"), _NORM),
    **dict.fromkeys(("softmax", "log_softmax"), _SOFTMAX),
    "scaled_dot_product": _ATTENTION,
    **dict.fromkeys(("std", "std_mean", "var", "var_mean"), _SPREAD),
    **dict.fromkeys(("to_copy", "to", "copy"), _CAST),
    **dict.fromkeys(
        ("mm", "addmm", "bmm", "matmul", "linear", "convolution", "mul", "add", "sum", "cumprod"), _PRODUCT
    ),
    **dict.fromkeys(("layer_norm", "batch_norm", "group_norm", "rms_norm", "instance_norm"), _NORMALISATION),
    "mean": _MEAN,
    "loss_factor": _FACTOR,
    "beside": _BESIDE,
    **dict.fromkeys(("linalg_inv", "inverse", "linalg_solve", "cholesky", "linalg_cholesky"), _INVERSE),
}


def advice(operation: str) -> Advice | None:
    """What is known about an operation.

    Args:
        operation: name as in `steadygrad.origin.Origin.operation`: ``aten.log``, ``aten._softmax``,
            ``LogBackward0``.

    Returns:
        Why it fails and what to write instead; None for one that isn't known.

    Example:
        >>> advice("SqrtBackward0").remedy.code
        'torch.sqrt(x.clamp_min(0) + 1e-12)'
    """
    name = operation.removeprefix("aten.").split(".")[0]
    if "Backward" in name:
        name = snake_case(name.partition("Backward")[0])
    words = f"_{name.strip('_')}_"
    longest_first = sorted(ADVICE, key=len, reverse=True)
    return next((ADVICE[known] for known in longest_first if f"_{known}_" in words), None)


def snake_case(name: str) -> str:
    """``log_softmax`` of ``LogSoftmax``."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
