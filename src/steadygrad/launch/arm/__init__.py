"""The part that touches torch: attach a monitor to whatever a script turns out to train."""

from __future__ import annotations

import atexit
import os
from functools import partial

from steadygrad import policies
from steadygrad.launch.arm.session import Session
from steadygrad.launch.arm.taps import tap
from steadygrad.launch.arm.yolo import TRAINER_MODULE, follow_trainers
from steadygrad.launch.children import follow_spawned
from steadygrad.launch.on_import import OnImport
from steadygrad.launch.orders import Orders
from steadygrad.launch.result import Result

__all__ = ["arm"]


def arm(orders: Orders, result: Result) -> OnImport:
    """Watch or guard every training of this process from now on.

    Torch has just been imported, and the script's next line hasn't run: the functions that are
    replaced here are replaced before anybody has bound them.

    Args:
        orders: what to do.
        result: where to tell what was seen.

    Returns:
        What is to wait for Ultralytics.

    Raises:
        UsageError: the policy doesn't take the arguments it was given.
    """
    policy = None if orders.policy is None else orders.policy.make(policies)
    session = Session(orders, policy, result)
    tap(session)
    trainers = OnImport(TRAINER_MODULE, partial(session.contained, "Ultralytics", follow_trainers, session))
    # After the run file's own handler in the order of registration, so before it at exit: the newest
    # numbers may still have to be fetched.
    atexit.register(session.close)
    follow_spawned(orders)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=session.reborn)
        os.register_at_fork(after_in_child=trainers.stop)
    return trainers
