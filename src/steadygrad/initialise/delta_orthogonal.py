"""`delta_orthogonal_`: convolutions that begin as one orthogonal matrix at the centre of the kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from steadygrad.errors import UsageError
from steadygrad.initialise.arguments import require_gain, require_module


def delta_orthogonal_(module: nn.Module, gain: float = 1.0, *, zero_bias: bool = True) -> list[str]:
    """Fill every convolution of a module with 0, and the centre of its kernel with an orthogonal matrix.

    Each position is then mapped by itself and keeps its length; neighbours come in by learning. A flattened
    orthogonal kernel doesn't have that: it mixes positions, and the signal of a very deep plain network
    dies at most spatial frequencies. With this start and tanh the paper trains 10,000 layers.

    Args:
        module: changed in place; convolutions of one to three dimensions, transposed ones not.
        gain: length of the output for an input of length 1; see `orthogonal_`.
        zero_bias: set their biases to 0.

    Returns:
        Names of the changed weights.

    Raises:
        UsageError: ``module`` is none; there is no convolution; one has more inputs than outputs, which no matrix maps without
            loss (widen it, or leave it out by calling this on the others); or ``gain`` is no positive number.

    Example:
        >>> import torch, steadygrad as sg
        >>> layer = torch.nn.Conv2d(4, 8, 3, padding=1)
        >>> sg.initialise.delta_orthogonal_(layer)
        ['weight']
        >>> x = torch.randn(1, 4, 5, 5)
        >>> torch.allclose(layer(x).norm(dim=1), x.norm(dim=1), atol=1e-5)
        True

    References:
        Xiao et al., Dynamical isometry and a mean field theory of CNNs: how to train 10,000-layer vanilla
        convolutional neural networks, 2018, arXiv:1806.05393, sec. 4 and algorithm 1.
    """
    require_module("delta_orthogonal_", module)
    require_gain("delta_orthogonal_", gain)
    layers = [(path, one) for path, one in module.named_modules() if isinstance(one, _KINDS)]
    if not layers:
        raise UsageError(f"delta_orthogonal_(): there is no convolution in {type(module).__name__}.")
    narrow = [path or type(one).__name__ for path, one in layers if one.in_channels > one.out_channels]
    if narrow:
        raise UsageError(
            f"delta_orthogonal_(): more inputs than outputs in {', '.join(narrow)}. No matrix keeps all lengths "
            "there: call it on the other layers, and orthogonal_ on these."
        )
    done: dict[int, str] = {}
    for path, layer in layers:
        if id(layer.weight) not in done:
            done[id(layer.weight)] = f"{path}.weight" if path else "weight"
            _fill_(layer, gain)
            if zero_bias and layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return list(done.values())


_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _fill_(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, gain: float) -> None:
    with torch.no_grad():
        layer.weight.zero_()
        for group in layer.weight.detach().chunk(layer.groups, 0):
            middle = centre(group)
            # QR knows no half precision.
            middle.copy_(nn.init.orthogonal_(torch.empty(middle.shape, dtype=torch.float64), gain))


def centre(kernel: Tensor) -> Tensor:
    """The matrix in the middle of a kernel ``[out, in, *space]``, as a view."""
    for size in kernel.shape[2:]:
        kernel = kernel.select(2, size // 2)
    return kernel
