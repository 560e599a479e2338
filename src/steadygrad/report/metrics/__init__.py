"""The runs of a folder as a Prometheus endpoint, for a fleet; needs ``steadygrad[prometheus]``."""

from steadygrad.report.metrics.server import metrics_server

__all__ = ["metrics_server"]
