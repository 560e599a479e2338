"""Trainings with something wrong; one family a file, each function named after its fault."""

from benchmarks.faults.faulty import (  # noqa: F401 - importing registers the cases
    activations,
    afresh,
    answers,
    data,
    depth,
    fresh,
    loss,
    numerics,
    optimizer,
    precision,
    rate,
    recurrent,
    transformers,
    vision,
    wiring,
)
