"""Where did it begin: one step replayed, and the operation, module, line and rows that broke it.

`trace` runs a step of its own; `Capture` holds on to the newest calls of a model in training and replays
them; `broken_loss` reads a graph that is still there, `steep_loss` listens in it. No full backward hooks anywhere: they break in-place activations.
"""

from steadygrad.tracing.capture import Call, Capture, Replay
from steadygrad.tracing.finiteness import has_nan
from steadygrad.tracing.graph import Broken, broken_loss, is_broken, is_leaf
from steadygrad.tracing.slope import Steep, steep_loss
from steadygrad.tracing.trace import trace
from steadygrad.tracing.unstepped import Unstepped

__all__ = [
    "Broken",
    "Call",
    "Capture",
    "Replay",
    "Steep",
    "Unstepped",
    "broken_loss",
    "has_nan",
    "is_broken",
    "is_leaf",
    "steep_loss",
    "trace",
]
