"""The terminal view of runs that are being written: pictures, worst tensors, newest findings."""

from steadygrad.report.screen.session import show
from steadygrad.report.screen.sight import look_at

__all__ = ["look_at", "show"]
