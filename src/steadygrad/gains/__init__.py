"""The product in the chain rule, made visible: growth of the gradient per layer and per time step."""

from steadygrad.gains.measure_gains import GainProbe, measure_gains
from steadygrad.gains.record import FLOAT32_EPS, Gains, Layer, TimeGain

__all__ = ["FLOAT32_EPS", "GainProbe", "Gains", "Layer", "TimeGain", "measure_gains"]
