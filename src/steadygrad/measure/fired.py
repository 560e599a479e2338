"""What the units of a layer fired, in six numbers.

Shape legend: S samples (rows, positions), U units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOST_VALUES = 65_536
"""Values looked at in each layer: shares over units need no more."""

_WISHED_SAMPLES = 64
SPATIAL = {nn.Conv1d: 3, nn.Conv2d: 4, nn.Conv3d: 5, nn.ConvTranspose1d: 3, nn.ConvTranspose2d: 4}
"""Dimensions of a convolution's input."""
WEIGHTED: tuple[type[nn.Module], ...] = (nn.Linear, *SPATIAL)
"""Modules whose input is what the layer before fired."""


def samples(module: nn.Module, values: Tensor) -> Tensor | None:
    """Input of a layer as ``[S, U]``, thinned out evenly; channels are a convolution's units."""
    if isinstance(module, nn.Linear):
        flat = values.reshape(-1, values.shape[-1])
        return flat[:: max(1, len(flat) // _wished(flat.shape[1]))]
    if values.dim() != SPATIAL.get(type(module), 0):
        return None
    channels = values.shape[1]
    places = values[:_WISHED_SAMPLES].flatten(2)
    stride = max(1, places.shape[0] * places.shape[2] // _wished(channels))
    return places[:, :, ::stride].movedim(1, -1).reshape(-1, channels)


def _wished(units: int) -> int:
    return max(_WISHED_SAMPLES, MOST_VALUES // max(1, units))


def fired(values: Tensor) -> Tensor:
    """Six numbers on the device, as `steadygrad.detect.signals.Fired` has them, of samples ``[S, U]``."""
    size = values.abs()
    return torch.stack(
        [
            (values == 0).all(dim=0).float().mean(),
            values.min(),
            values.max(),
            (size > 0.99).float().mean(),
            ((values != 0) & (values != 1)).float().mean(),
            ((values < 0.01) | (values > 0.99)).float().mean(),
        ]
    )
