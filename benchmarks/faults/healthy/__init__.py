"""Trainings with nothing wrong, however noisy; one family a file."""

from benchmarks.faults.healthy import (  # noqa: F401 - importing registers the cases
    afresh,
    border,
    cnn,
    fresh,
    mlp,
    noisy,
    recurrent,
    regimes,
    transformer,
)
