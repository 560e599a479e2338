"""Run somebody's script as python would, and watch or guard what it trains.

Only `steadygrad.launch.arm` touches torch, and it is imported when the script has imported torch.
"""

from steadygrad.launch.launchers import corrected_command
from steadygrad.launch.orders import Orders
from steadygrad.launch.policy_call import POLICIES, PolicyCall, parse_policy
from steadygrad.launch.run import run
from steadygrad.launch.target import Target, find_target

__all__ = [
    "POLICIES",
    "Orders",
    "PolicyCall",
    "Target",
    "corrected_command",
    "find_target",
    "parse_policy",
    "run",
]
