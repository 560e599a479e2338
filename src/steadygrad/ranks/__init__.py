"""The ranks of one training: one small collective a step, the same numbers and so the same verdict on each."""

from steadygrad.ranks.guilty import tell_rank
from steadygrad.ranks.handshake import Peers, meet
from steadygrad.ranks.local import LocalNorms
from steadygrad.ranks.ranks import Ranks
from steadygrad.ranks.word import exchange

__all__ = ["LocalNorms", "Peers", "Ranks", "exchange", "meet", "tell_rank"]
