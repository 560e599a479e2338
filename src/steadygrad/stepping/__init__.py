"""One optimizer's step from the inside: hooks, verdicts, and how they are carried out."""

from steadygrad.stepping.aftermath import REPORTING
from steadygrad.stepping.apply import Applier, ClipCall, HandLoop
from steadygrad.stepping.at_exit import settled_at_exit
from steadygrad.stepping.brake import Brake, BrakedPolicy
from steadygrad.stepping.free_memory import free_bytes
from steadygrad.stepping.hooks import StepHooks
from steadygrad.stepping.lane import Lane, is_late
from steadygrad.stepping.lookout import Lookout
from steadygrad.stepping.outlet import Waiter
from steadygrad.stepping.streak import SkipStreak, check_max_consecutive
from steadygrad.stepping.together import check_replica_groups, join_ranks, meet_ranks
from steadygrad.stepping.track import Track
from steadygrad.stepping.undo import StepUndo, moves_while_evaluating
from steadygrad.stepping.zero_grad import ZeroGradCheck

__all__ = [
    "REPORTING",
    "Applier",
    "Brake",
    "BrakedPolicy",
    "ClipCall",
    "HandLoop",
    "Lane",
    "Lookout",
    "SkipStreak",
    "StepHooks",
    "StepUndo",
    "Track",
    "Waiter",
    "ZeroGradCheck",
    "check_max_consecutive",
    "check_replica_groups",
    "free_bytes",
    "is_late",
    "join_ranks",
    "meet_ranks",
    "moves_while_evaluating",
    "settled_at_exit",
]
