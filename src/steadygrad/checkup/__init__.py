"""A training looked at before it begins: `check` takes one step's look and tries a few on a copy."""

from steadygrad.checkup.examine import check
from steadygrad.checkup.remedies import Trial, Trials
from steadygrad.checkup.result import Checkup

__all__ = ["Checkup", "Trial", "Trials", "check"]
