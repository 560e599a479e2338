"""The product in the chain rule, made visible: growth of the gradient per layer and per time step."""

from steadygrad.gains.measure_gains import measure_gains
from steadygrad.gains.probe import GainProbe
from steadygrad.gains.record import Gains, Layer, Stretch
from steadygrad.gains.time_gain import FLOAT32_EPS, TimeGain

__all__ = ["FLOAT32_EPS", "GainProbe", "Gains", "Layer", "Stretch", "TimeGain", "measure_gains"]
