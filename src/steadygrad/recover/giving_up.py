"""What a training is ended with that going back can't help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from steadygrad.detect.finding import listed
from steadygrad.errors import RecoveryFailed
from steadygrad.measure import own_part
from steadygrad.recover.soundness import MOMENTS
from steadygrad.tracing import has_nan


def cause_of(where: Sequence[str], ill: Sequence[str], params: Mapping[str, Tensor]) -> list[str]:
    """What a copy holds that has ruined these tensors; where none is ruined anew, what may make each step non-finite.

    Args:
        where: names of the tensors that are ruined now and weren't then.
        ill: names of what wasn't finite when the copy was taken.
        params: the parameters as they are now, by name.
    """
    if where:
        return [name for name in ill if name.removeprefix(f"{MOMENTS} ") in where]
    return [name for name in ill if name in params and has_nan(own_part(params[name].detach()))]


def no_help(step: int, trouble: str, attempts: int, good_step: int) -> RecoveryFailed:
    """Gone back as often as allowed, with a greater change each time, and the trouble came again.

    Args:
        step: the step at which it did.
        trouble: what it is.
        attempts: rollbacks in a row.
        good_step: step of the copy that is back.
    """
    return RecoveryFailed(
        f"stopped at step {step}: {trouble}. {attempts} rollbacks in a row, the last ones with gradients capped at their "
        f"usual norm and the learning rate down to 1/{2 ** max(0, attempts - 2)}, didn't help, so going on would only "
        f"hide the fault. The state is that of step {good_step:,}. Look at the findings of guard.summary(), try a lower "
        "learning rate, or allow more with recover=sg.recover.rollback(max_rollbacks=...)."
    )


def copied_cause(step: int, trouble: str, cause: Sequence[str], good_step: int) -> RecoveryFailed:
    """The only copy to go back to holds what has ruined the state.

    Args:
        step: the step at which it was seen.
        trouble: what it is.
        cause: names of what wasn't finite when the copy was taken.
        good_step: step of the copy.
    """
    return RecoveryFailed(
        f"stopped at step {step}: {trouble}. The only copy of the state, that of step {good_step:,}, holds the cause: "
        f"{listed(cause)} wasn't finite when the guard began, and each step from there would end like this one. The state is "
        "that of this copy again. Load the last healthy checkpoint; where only the optimizer's state is ruined, make a new "
        "optimizer, or, of one of torch's own, call optimizer.state.clear()."
    )
