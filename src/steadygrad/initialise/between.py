"""What stands between two layers: whether what one puts out in mirrored halves reaches the other as such.

With ``z`` and ``-z`` in the halves, the layer behind gets ``f(z)`` and ``f(-z)``, and their difference must be linear in
``z``. So between the two there may be one activation with that property, and else only what treats both halves alike and is
linear. A list of what is allowed, since most of what isn't on it (a second activation, a maximum, a norm over units) isn't.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from torch import nn

_ODD = tuple(f"{name}Backward" for name in ("Relu", "LeakyRelu", "Gelu", "Silu", "Softplus"))
"""Names of the autograd nodes of activations whose values at ``z`` and ``-z`` differ by a multiple of ``z``."""

_VIEWS = tuple(
    f"{name}Backward"
    for name in ("View", "UnsafeView", "ReshapeAlias", "Alias", "Clone", "ToCopy", "Squeeze", "Unsqueeze")
)
"""They leave the order of the numbers as it is, unlike a permutation."""

_DROPOUT = tuple(f"{name}Backward" for name in ("Mul", "NativeDropout", "FusedDropout"))

_BATCH_NORM = tuple(f"{name}BatchNormBackward" for name in ("Native", "Cudnn", "Miopen"))

_POOLS = tuple(f"{kind}AvgPool{dims}Backward" for kind in ("", "Adaptive") for dims in ("2D", "3D"))


@dataclass(frozen=True, slots=True)
class Made:
    """What a layer put out.

    Attributes:
        module: the layer.
        shape: of its output; units are the last dimension of a linear layer's and the second of a convolution's.
    """

    module: nn.Module
    shape: tuple[int, ...]


def source(node: Any, made: dict[Any, Made]) -> Made | None:
    """The layer in front of one activation; None where there is none, or more between them than keeps halves apart.

    Args:
        node: autograd node of what a layer is given.
        made: what layers put out, by its node.
    """
    passed: list[Any] = []
    while node is not None and node not in made:
        passed.append(node)
        node = _parent(node)
    if node is None or sum(_is(one, _ODD) for one in passed) != 1:
        return None
    active = next(place for place, one in enumerate(passed) if _is(one, _ODD))
    spatial = not isinstance(made[node].module, nn.Linear)
    for place, one in enumerate(passed):
        # What comes behind the activation has another size in each half, which this would make the same.
        ahead = place > active and _is(one, _BATCH_NORM)
        pooled = spatial and _is_pool(one)
        if not (ahead or pooled or _is(one, (*_ODD, *_VIEWS, *_DROPOUT))):
            return None
    return made[node]


def keeps_halves(found: Made, module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether halves of one layer's output are halves of the other's input.

    Args:
        found: the layer in front and what it put out.
        module: the layer behind.
        shape: of what it is given.
    """
    ahead: Any = found.module.weight
    behind: Any = module.weight
    rows, columns = ahead.shape[0], behind.shape[1]
    groups = max(getattr(one, "groups", 1) for one in (found.module, module))
    # Where a flattening puts the units of several steps into one row, they alternate in it.
    alike = prod(found.shape[: _unit(found.module, found.shape)]) == prod(shape[: _unit(module, shape)])
    even = rows % 2 == 0 or rows == columns
    return alike and rows > 1 and columns % rows == 0 and groups == 1 and even


def _parent(node: Any) -> Any:
    """The only node in front; None where there are several, or none."""
    ahead = [one for one, _ in node.next_functions if one is not None]
    if not _is(node, _DROPOUT):
        ahead = [one for one in ahead if "AccumulateGrad" not in one.name()]
    # A factor that is learnt may differ between units.
    return ahead[0] if len(ahead) == 1 else None


def _is_pool(node: Any) -> bool:
    """Whether it averages over places, and not over units."""
    if not _is(node, ("MeanBackward1",)):
        return _is(node, _POOLS)
    # Only the node knows over which axes a mean was taken.
    dims = len(node._saved_self_sym_sizes)  # noqa: SLF001
    # Negative dimensions come as unsigned numbers of 64 bits.
    axes = node._saved_dim or ()  # noqa: SLF001
    wanted = [dim - 2**64 if dim >= 2**63 else dim for dim in axes]
    return bool(wanted) and all(dim % dims > 1 for dim in wanted)


def _is(node: Any, names: tuple[str, ...]) -> bool:
    return bool(node.name().startswith(names))


def _unit(module: nn.Module, shape: tuple[int, ...]) -> int:
    return len(shape) - 1 if isinstance(module, nn.Linear) else 1
