"""Initial weights that keep the size of a signal from layer to layer."""

from steadygrad.initialise.delta_orthogonal import delta_orthogonal_
from steadygrad.initialise.looks_linear import looks_linear_
from steadygrad.initialise.signal_size import lsuv_, orthogonal_
from steadygrad.initialise.zero_residual import zero_residual_

__all__ = ["delta_orthogonal_", "looks_linear_", "lsuv_", "orthogonal_", "zero_residual_"]
