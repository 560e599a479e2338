"""What Lightning calls for every ``Trainer``: nothing, unless the environment says ``STEADYGRAD``.

In a file of its own, because it is imported wherever steadygrad is installed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadygrad.errors import UsageError

if TYPE_CHECKING:
    from steadygrad.integrations.attaching import Mode

VARIABLE = "STEADYGRAD"
MODES: dict[str, Mode] = {"guard": "guard", "watch": "watch"}
RUN = Path("steadygrad-runs", "lightning.steady")


def callbacks() -> list[Any]:
    """The callbacks to add to a ``Trainer``.

    Raises:
        UsageError: the variable is neither ``guard`` nor ``watch``: a training that was to be guarded must
            not run unguarded for a slip of the pen.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked in {"", "0", "off"}:
        return []
    mode = MODES.get(asked)
    if mode is None:
        raise UsageError(f"{VARIABLE}={asked}: expected guard or watch (or nothing, for neither).")
    from steadygrad.integrations.lightning import FromEnvironment  # noqa: PLC0415 - only where it is asked for

    return [FromEnvironment(mode, run=RUN)]
