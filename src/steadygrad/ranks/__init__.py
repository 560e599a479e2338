"""The ranks of one training: one small collective a step, the same numbers and so the same verdict on each."""

from steadygrad.ranks.census import laid_out, layout_for, misfit, packed, read, tell
from steadygrad.ranks.farewell import expect_farewell
from steadygrad.ranks.flags import Flags
from steadygrad.ranks.guilty import tell_rank
from steadygrad.ranks.handshake import Apart, among_several, meet
from steadygrad.ranks.local import LocalNorms
from steadygrad.ranks.newcomers import Newcomers
from steadygrad.ranks.own_parts import OwnParts
from steadygrad.ranks.peers import Peers
from steadygrad.ranks.ranks import Ranks
from steadygrad.ranks.replica_groups import ReplicaGroup, ReplicaGroups, as_replica_groups
from steadygrad.ranks.shards import like
from steadygrad.ranks.word import PATIENCE_S, agree, exchange

__all__ = [
    "PATIENCE_S",
    "Apart",
    "Flags",
    "LocalNorms",
    "Newcomers",
    "OwnParts",
    "Peers",
    "Ranks",
    "ReplicaGroup",
    "ReplicaGroups",
    "agree",
    "among_several",
    "as_replica_groups",
    "exchange",
    "expect_farewell",
    "laid_out",
    "layout_for",
    "like",
    "meet",
    "misfit",
    "packed",
    "read",
    "tell",
    "tell_rank",
]
