"""Every exception steadygrad raises on purpose.

SteadygradError
├── UsageError            also a ValueError: a call that can't work (wrong argument, nothing to watch)
│   └── PolicyError       a policy argument out of range
├── CheckpointFailed      also an OSError: a rank couldn't write its part; the checkpoint before is whole
├── FrameworkMissing      also an ImportError: an integration's framework is absent or too old
├── TrainingStopped       the guard ended the run on purpose
│   ├── NonfiniteStreak   too many steps in a row had non-finite gradients
│   ├── RankLost          a rank of a training on several doesn't answer any more
│   └── RecoveryFailed    going back to an earlier state didn't help, or can't
└── RunFileError          a run file that can't be opened, read or written
    └── NotARunFile       the file exists, but steadygrad didn't write it

A fault *inside* steadygrad is none of these: it is logged once, the part that failed switches
itself off and the training goes on.
"""


class SteadygradError(Exception):
    """Base of every exception raised by steadygrad on purpose."""


class UsageError(SteadygradError, ValueError):
    """A call that can't work; the message gives the value, the place and the way out."""


class PolicyError(UsageError):
    """A policy was built with an argument outside its range."""


class FrameworkMissing(SteadygradError, ImportError):
    """The framework of an integration is not installed, or too old; the message says how to install it."""


class CheckpointFailed(SteadygradError, OSError):
    """A checkpoint that several ranks write together wasn't finished; the one before is untouched."""


class TrainingStopped(SteadygradError, RuntimeError):
    """The guard stopped the training because going on would only hide the fault."""


class NonfiniteStreak(TrainingStopped):
    """More optimizer steps in a row were skipped for non-finite gradients than allowed."""


class RankLost(TrainingStopped):
    """A rank died or doesn't answer: no step can be made without it; the message names it."""


class RecoveryFailed(TrainingStopped):
    """The state was ruined again and again, whatever was changed after going back, or the copy to go back to is ruined itself."""


class RunFileError(SteadygradError, OSError):
    """A run file can't be opened, read or written."""


class NotARunFile(RunFileError):
    """The path holds a file that is not a steadygrad run."""
