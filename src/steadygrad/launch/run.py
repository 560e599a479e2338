"""Run a script in this process, as python would, with something watching what it trains."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import NoReturn

from steadygrad.launch.closing import closing_line
from steadygrad.launch.main_module import prepare
from steadygrad.launch.on_import import OnImport
from steadygrad.launch.orders import Orders
from steadygrad.launch.result import Result
from steadygrad.launch.shadow import OwnModules
from steadygrad.launch.target import Target
from steadygrad.launch.tracebacks import show_without_us
from steadygrad.notices import QUIET


def run(target: Target, orders: Orders) -> NoReturn:
    """Run a script; never returns.

    The script gets its own ``__main__``, arguments and path, this process's terminal and signals, and
    its exit code is the process's. Nothing of ours imports torch: as soon as the script has done so,
    `steadygrad.launch.arm` begins to watch.

    Args:
        target: what to run.
        orders: what to do with the trainings in it.

    Raises:
        SystemExit: when the script ends without an exception, with its code.
    """
    own, result = OwnModules(), Result()
    if orders.quiet:
        os.environ[QUIET] = "1"
    # First of all handlers, so called last: after threads that still train, and the script's own.
    atexit.register(_close, target, orders, result, os.getpid())
    OnImport("torch", lambda: arm_into(own, orders, result)).wait()
    try:
        code, main = prepare(target, own.make_way)
        if own.namesake is not None and not orders.quiet:
            _write(
                f"warning: {own.namesake} holds a module named steadygrad too. Here `import steadygrad` finds the "
                "installed package and not that one, as it would under python: rename it."
            )
        exec(code, main.__dict__)  # noqa: S102 - running somebody's script is the whole purpose
    except SystemExit:
        raise
    except BaseException:
        show_without_us()
        raise
    sys.exit()


def arm_into(own: OwnModules, orders: Orders, result: Result) -> None:
    """Torch has just been imported: begin to watch. A fault of ours must not end the script's import.

    Args:
        own: keeps the script's modules and ours apart.
        orders: what to do.
        result: where to tell what was seen.

    Raises:
        SystemExit: the policy can't be made.
    """
    from steadygrad.errors import UsageError  # noqa: PLC0415 - the traceback below needs nothing else

    try:
        with own.in_place():
            from steadygrad.launch.arm import arm  # noqa: PLC0415 - it imports torch

            trainers = arm(orders, result)
        # Searched as the script searches. Where there is none, nothing of ours stays among the finders.
        if find_spec("ultralytics") is not None:
            trainers.wait()
    except UsageError as error:
        # A guard with another policy than the one asked for would be worse than none.
        _write(f"error: {error}")
        result.refused = True
        raise SystemExit(2) from None
    except Exception as fault:  # noqa: BLE001 - whatever it is, the script must go on
        result.fault = f"{type(fault).__name__}: {fault}"


def _close(target: Target, orders: Orders, result: Result, pid: int) -> None:
    """The last line, in the process that began, of the first rank."""
    if result.refused or os.getpid() != pid or orders.quiet or os.environ.get("RANK", "0") != "0":
        return
    _write(closing_line(target.name, result, torch_imported="torch" in sys.modules))


def _write(line: str) -> None:
    # A terminal that is gone is no reason to fail.
    with suppress(Exception):
        sys.stderr.write(f"steadygrad: {line}\n")
        sys.stderr.flush()
