"""Going back to the last good state, never losing it, and keeping what shows what went wrong."""

from steadygrad.recover.buffers import BufferWatch
from steadygrad.recover.bundle_plan import Bundles, as_allowed, bundles
from steadygrad.recover.checkpoints import Checkpoints
from steadygrad.recover.copies import tensors_of
from steadygrad.recover.making import PART as RECOVERY
from steadygrad.recover.making import make_checkpoints, make_rescue
from steadygrad.recover.plan import Rollback, among_ranks, as_rollback, in_words, possible, rollback
from steadygrad.recover.rescue import Rescue
from steadygrad.recover.witness import Witness

__all__ = [
    "RECOVERY",
    "BufferWatch",
    "Bundles",
    "Checkpoints",
    "Rescue",
    "Rollback",
    "Witness",
    "among_ranks",
    "as_allowed",
    "as_rollback",
    "bundles",
    "in_words",
    "make_checkpoints",
    "make_rescue",
    "possible",
    "rollback",
    "tensors_of",
]
