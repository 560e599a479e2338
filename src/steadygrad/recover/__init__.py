"""Going back to the last good state, and never losing it."""

from steadygrad.recover.checkpoints import Checkpoints
from steadygrad.recover.plan import Rollback, as_rollback, possible, rollback
from steadygrad.recover.rescue import Rescue

__all__ = ["Checkpoints", "Rescue", "Rollback", "as_rollback", "possible", "rollback"]
