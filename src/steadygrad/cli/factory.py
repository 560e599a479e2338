"""What ``package.module:factory`` or ``file.py:factory`` names, imported and called."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click

FORM = "package.module:factory, or file.py:factory"
_OURS = f"{Path(__file__).parents[1]}{os.sep}"
_DISPATCH = f"{os.sep}torch{os.sep}_"
RETURNS = "(model, batch, loss_fn) or (model, batch, loss_fn, optimizer)"


def made_by(target: str) -> tuple[Any, ...]:
    """What the factory returns.

    Args:
        target: where the factory is.

    Returns:
        Three or four things: model, batch, loss function, optimizer.

    Raises:
        UsageError: there is no such factory, it raises, or it returns something else.
    """
    place, _, name = target.rpartition(":")
    if not place or not name.isidentifier():
        raise click.UsageError(f"expected {FORM}; got {target!r}.")
    factory = _attribute(_module(place), name, place)
    try:
        made = factory()
    except (Exception, SystemExit) as fault:  # whoever reads sys.argv leaves the program
        raise click.UsageError(f"{target} raised {told(fault)}.") from fault
    if not isinstance(made, (tuple, list)) or len(made) not in {3, 4}:
        pieces = isinstance(made, (tuple, list))
        what = f"{len(made)} things" if pieces else f"something of type {type(made).__name__}"
        raise click.UsageError(f"{target} returned {what}; expected {RETURNS}.")
    return tuple(made)


def told(fault: BaseException) -> str:
    """An exception in one line, with the place where it was raised."""
    # Neither ours, nor Python's machinery for imports, nor torch's for operations that are listened to.
    frames = [
        frame
        for frame in traceback.extract_tb(fault.__traceback__)
        if not frame.filename.startswith((_OURS, "<frozen ")) and _DISPATCH not in frame.filename
    ]
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    last = own[-1] if own else frames[-1] if frames else None
    where = f" ({Path(last.filename).name}:{last.lineno})" if last else ""
    return f"{type(fault).__name__}: {fault}{where}"


def _module(place: str) -> ModuleType:
    # As for python -m: what lies in the current folder can be imported.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        if place.endswith(".py"):
            return _from_file(Path(place))
        return importlib.import_module(place)
    except ModuleNotFoundError as missing:
        if missing.name is None or not f"{place}.".startswith(f"{missing.name}."):
            raise click.UsageError(f"importing {place} raised {told(missing)}.") from missing
        raise click.UsageError(
            f"there is no module {missing.name!r} here or among what is installed."
        ) from None
    except click.UsageError:
        raise
    except (Exception, SystemExit) as fault:
        raise click.UsageError(f"importing {place} raised {told(fault)}.") from fault


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise click.UsageError(f"there is no file {path}.")
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where a class is looked up by the name of its module: pickle, dataclasses.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _attribute(module: ModuleType, name: str, place: str) -> Callable[[], Any]:
    found = getattr(module, name, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    if found is not None:
        raise click.UsageError(
            f"{place}:{name} is of type {type(found).__name__}; expected a function that returns {RETURNS}."
        )
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    known = f" It has {', '.join(functions[:6])}." if functions else ""
    raise click.UsageError(f"{place} has no {name!r}.{known}")
