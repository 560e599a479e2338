"""Healthy trainings of many kinds: a checkup must have nothing to say about them."""

from benchmarks.remedies.healthy import outputs, pictures, plain, sequences, unusual
from benchmarks.remedies.healthy.zoo import HEALTHY, adam, mlp, sgd

__all__ = ["HEALTHY", "adam", "mlp", "outputs", "pictures", "plain", "sequences", "sgd", "unusual"]
