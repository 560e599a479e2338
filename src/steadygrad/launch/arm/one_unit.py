"""Whether a softmax is over the units of a layer that has only one.

One number along its dimension isn't enough: a query with one document, a sequence of one step or a batch of one come and
go with the data. The units of a layer don't.
"""

from __future__ import annotations

from typing import Any

from steadygrad.tracing import is_leaf

SOFTMAXES = ("SoftmaxBackward0", "LogSoftmaxBackward0")
# A dimension counted from the end is kept as an unsigned number of 64 bits.
_UNSIGNED = 2**64
_CAST, _TRANSPOSED = "ToCopyBackward", "TBackward"
# Where its weight stands among what an operation is given.
_LINEAR = {"AddmmBackward0": 2, "MmBackward0": 1}
_CONVOLUTION = "ConvolutionBackward0"


def is_over_one_unit(node: Any) -> bool:
    """Whether a node is a softmax along the units of a layer right below it, of which there is one.

    Args:
        node: of an autograd graph.
    """
    if node.name() not in SOFTMAXES:
        return False
    # Not by what it has saved, for which a checkpoint would compute it again.
    shape, dim = _shape(node), node._saved_dim  # noqa: SLF001 - only the node knows
    dim = dim - _UNSIGNED + len(shape) if dim >= len(shape) else dim
    return 0 <= dim < len(shape) and bool(shape[dim] == 1) and dim == _dimension_of_units(node, len(shape))


def _dimension_of_units(node: Any, dims: int) -> int | None:
    """The dimension of the units of a layer in what it gives to an operation; None where no layer is right below."""
    layer = _below(node, 0)
    view = None
    if layer is not None and layer.name() in {"ViewBackward0", "UnsafeViewBackward0"}:
        view, layer = layer, _below(layer, 0)
    if layer is None:
        return None
    if layer.name() == _CONVOLUTION:
        return 1 if view is None and _is_weight(_below(layer, 1)) else None
    at = _LINEAR.get(layer.name())
    if at is None or not _is_weight(_below(layer, at)):
        return None
    return dims - 1 if view is None or _is_of_the_layer(view, layer, at) else None


def _is_of_the_layer(view: Any, layer: Any, at: int) -> bool:
    """Whether the view is the linear layer's own: it has been given more than two dimensions and gives them back.

    A script's own may have brought what were rows into the last dimension.
    """
    given = _below(layer, at - 1)
    if given is None or not given.name().startswith("ViewBackward"):
        return False
    whole = tuple(given._saved_self_sym_sizes)  # noqa: SLF001 - only the node knows
    return len(whole) > 2 and (*whole[:-1], 1) == tuple(_shape(view))


def _shape(node: Any) -> Any:
    return node._input_metadata[0].shape  # noqa: SLF001 - only the node knows


def _below(node: Any, position: int) -> Any:
    """What gave a node its argument at a position, a cast by autocast looked through."""
    following = node.next_functions
    behind = following[position][0] if position < len(following) else None
    return _below(behind, 0) if behind is not None and behind.name().startswith(_CAST) else behind


def _is_weight(node: Any) -> bool:
    """Whether it is a parameter, and nothing that was computed (the keys of an attention)."""
    while node is not None and node.name().startswith((_TRANSPOSED, _CAST)):
        node = _below(node, 0)
    return node is not None and is_leaf(node)
