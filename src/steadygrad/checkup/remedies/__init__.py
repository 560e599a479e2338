"""Remedies that are tried before they are recommended: each on a copy, for a few dozen steps."""

from steadygrad.checkup.remedies.plan import Plan
from steadygrad.checkup.remedies.trial import Trial, Trials
from steadygrad.checkup.remedies.trials import try_all

__all__ = ["Plan", "Trial", "Trials", "try_all"]
