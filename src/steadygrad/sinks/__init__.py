"""Where a run's numbers and findings can go besides the run file: the loggers people have.

A guard or watch sends to any of them: ``guard.send_to(steadygrad.sinks.TensorBoard("logs"))``.
"""

from steadygrad.sinks.experiments import MLflow, Trackio, WandB
from steadygrad.sinks.sink import Sink
from steadygrad.sinks.tensorboard_files import TensorBoard, write_tensorboard

__all__ = ["MLflow", "Sink", "TensorBoard", "Trackio", "WandB", "write_tensorboard"]
