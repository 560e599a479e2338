"""Going back to the last good state, and never losing it."""

from steadygrad.recover.plan import Rollback, as_rollback, possible, rollback
from steadygrad.recover.rescue import Rescue

__all__ = ["Rescue", "Rollback", "as_rollback", "possible", "rollback"]
