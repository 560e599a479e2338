"""What came of a program, and where two outcomes differ."""

from __future__ import annotations

import contextlib
import gc
import io
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.monitor.driver import Driver
from tests.monitor.plain import canon, told, without_copies
from tests.monitor.programs import Program, conditions

import steadygrad as sg


def outcome(program: Program, *, closed: bool) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp())
    stderr = io.StringIO()
    try:
        with conditions(closed=closed) as clock, contextlib.redirect_stderr(stderr):
            driver = Driver(program, folder, clock)
            driver.drive()
            found = _of(driver)
        del driver
        gc.collect()
        found["stderr"] = sorted(
            line
            for line in stderr.getvalue().replace(str(folder), "").splitlines()
            if line.startswith("steadygrad")
        )
        return found
    finally:
        shutil.rmtree(folder)


def _of(driver: Driver) -> dict[str, Any]:
    guard = driver.guard
    found: dict[str, Any] = {
        "weights": canon(driver.net.state_dict()),
        "optimizer": driver.states(),
        "losses": list(map(repr, driver.losses)),
        "notes": driver.notes,
    }
    if driver.p.recorded:
        guard.close()
    found["recent"] = canon(guard.recent)
    found["findings"] = sorted(map(told, guard.findings))
    found["faults"] = guard._logbook.faults
    found["counts"] = repr(guard.counts)
    found["state"] = canon(guard.state_dict())
    found["summary"] = without_copies(guard.summary(), driver.folder)
    if not driver.p.recorded:
        guard.close()
    found["sink"] = driver.sink.told
    found["sink findings"] = sorted(driver.sink.found)
    for run in sorted(driver.folder.glob("*.steady")):
        found[run.name] = of_run(run)
    return found


COLUMNS = ["loss", "lr", "clip_coef", "lr_factor", "skipped", "overflow", "optimizer"]


def rounded(column: Any) -> list[float]:
    """Compared as exactly as a run file is: where one of its parts ends, and so how it is packed, is a matter of time."""
    return [float(value) for value in column]


def of_run(path: Path) -> dict[str, Any]:
    run = sg.open_run(path)
    names = [tensor.name for tensor in run.info.tensors]
    return {
        "steps": canon(run.steps),
        "total": canon(run.total_norm),
        "rest": [rounded(getattr(run, name)) for name in COLUMNS],
        "norms": canon([run.norms(name) for name in names]),
        "absent": canon([run.absent(name) for name in names]),
        "params": canon([run.param_norms(name) for name in names]),
        "updates": canon([run.update_norms(name) for name in names]),
        "scalars": {
            name: [canon(run.scalars(name)[0]), rounded(run.scalars(name)[1])] for name in run.scalar_names
        },
        "incidents": canon(run.incidents),
        "findings": sorted(map(told, run.findings)),
        "looks": canon(run.looks),
        "finished": run.finished,
    }


def differences(one: Any, other: Any, at: str = "") -> list[str]:
    """Where two outcomes differ, and how."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = [f"{at}.{key}: only in one" for key in one.keys() ^ other.keys()]
        for key in one.keys() & other.keys():
            found += differences(one[key], other[key], f"{at}.{key}")
        return found
    if isinstance(one, list) and isinstance(other, list):
        found = [] if len(one) == len(other) else [f"{at}: {len(one)} and {len(other)} entries"]
        for k, (a, b) in enumerate(zip(one, other, strict=False)):
            if a != b and (more := differences(a, b, f"{at}[{k}]")):
                return [*found, *more]
        return found
    if isinstance(one, float) and isinstance(other, float):
        alike = math.isclose(one, other, rel_tol=1e-3) or (math.isnan(one) and math.isnan(other))
        return [] if alike else [f"{at}: {one} and {other}"]
    return [] if one == other else [f"{at}: {str(one)[:150]} and {str(other)[:150]}"]


def compare(program: Program) -> list[str]:
    """Differences between the training with the short way open and with it closed."""
    return differences(outcome(program, closed=False), outcome(program, closed=True))
