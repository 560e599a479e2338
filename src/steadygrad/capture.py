"""CUDA graphs: while one is captured, everything of ours keeps still.

A capture records what is put on its stream and runs nothing. A wait for an event, a read by the host or new
page-locked memory makes it fail, and with it the user's step; what is recorded has no result to be read yet; and
a replay of the graph calls no Python at all.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import torch

CAPTURED = (
    "a step was captured in a CUDA graph: replays of it call no hook, so steps made that way are neither measured nor "
    "guarded. Capture forward and backward only, and call optimizer.step() after each replay."
)


_HAS_CUDA: bool = torch.backends.cuda.is_built()  # type: ignore[no-untyped-call]


def is_capturing() -> bool:
    """Whether a CUDA graph is captured on the current stream; cheap, and starts no CUDA."""
    return _HAS_CUDA and bool(torch.cuda.is_initialized()) and torch.cuda.is_current_stream_capturing()  # type: ignore[no-untyped-call]
