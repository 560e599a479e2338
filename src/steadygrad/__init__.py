"""Keeps a PyTorch training run on course.

``guard`` acts, ``watch`` only observes, ``open_run`` reads what either recorded. Names load on
first use: ``import steadygrad`` imports neither torch nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steadygrad import errors, initialise, policies, recover, sinks
    from steadygrad.attachment import guard, watch
    from steadygrad.checkup import Checkup, check
    from steadygrad.monitor import Monitor
    from steadygrad.origin import Origin
    from steadygrad.records import Finding, Incident, Reading, Remedy, RunInfo, TensorInfo
    from steadygrad.runfile import open_run
    from steadygrad.tracing import trace

__version__ = "0.1.0"

__all__ = [
    "Checkup",
    "Finding",
    "Incident",
    "Monitor",
    "Origin",
    "Reading",
    "Remedy",
    "RunInfo",
    "TensorInfo",
    "__version__",
    "check",
    "errors",
    "guard",
    "initialise",
    "open_run",
    "policies",
    "recover",
    "sinks",
    "trace",
    "watch",
]

_SUBMODULES = ("errors", "initialise", "policies", "recover", "sinks")
_HOMES = {
    "attachment": ("guard", "watch"),
    "checkup": ("Checkup", "check"),
    "monitor": ("Monitor",),
    "origin": ("Origin",),
    "records": ("Finding", "Incident", "Reading", "Remedy", "RunInfo", "TensorInfo"),
    "runfile": ("open_run",),
    "tracing": ("trace",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its home the first time it is asked for (PEP 562)."""
    if name in _SUBMODULES:
        return import_module(f"steadygrad.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'steadygrad' has no attribute {name!r}")
    value = getattr(import_module(f"steadygrad.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, whether they are loaded yet or not."""
    return list(__all__)
