"""A ``__main__`` of the script's own, set up as python sets it up.

`runpy` takes its ``__main__`` away again when the script ends, but atexit handlers, threads and
pickles still need it. So a real module is put into ``sys.modules`` and stays there.
"""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import pkgutil
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from steadygrad.launch.target import Target

_MAIN = "__main__"


def prepare(target: Target, make_way: Callable[[str | None, str], None]) -> tuple[CodeType, ModuleType]:
    """Set ``sys.argv``, ``sys.path`` and ``__main__`` as python would, and find the script's code.

    For ``-m`` this imports the packages around the module, which is the user's code.

    Args:
        target: what to run.
        make_way: called with the entry of ``sys.path`` that is replaced and the new first folder,
            before anything is searched there.

    Returns:
        The code, and the module in whose names it is to run.

    Raises:
        SystemExit: there is nothing to run, said in python's words.
    """
    main = ModuleType(_MAIN)
    sys.modules[_MAIN] = main
    if target.is_module:
        return _module(target, main, make_way)
    where = str(Path(target.name).absolute())
    importer = pkgutil.get_importer(where)
    if importer is not None:
        return _folder(target, main, where, importer, make_way)
    sys.argv = [target.name, *target.args]
    _enter(str(Path(os.path.realpath(target.name)).parent), make_way)
    loader = SourceFileLoader(_MAIN, where)
    _furnish(main, file=where, package=None, loader=loader, spec=None)
    return _code(where), main


def _module(
    target: Target, main: ModuleType, make_way: Callable[[str | None, str], None]
) -> tuple[CodeType, ModuleType]:
    # What packages see that are imported on the way.
    sys.argv = ["-m", *target.args]
    _enter(str(Path.cwd()), make_way)
    spec = _runnable(target.name)
    code = _code_of(spec, target.name)
    sys.argv = [str(spec.origin), *target.args]
    _furnish(main, file=spec.origin, package=spec.parent, loader=spec.loader, spec=spec)
    return code, main


def _folder(
    target: Target,
    main: ModuleType,
    where: str,
    importer: Any,
    make_way: Callable[[str | None, str], None],
) -> tuple[CodeType, ModuleType]:
    """A folder or a zip file: it goes on the path itself, also under ``python -P``."""
    sys.argv = [target.name, *target.args]
    _enter(where, make_way, always=True)
    spec = importer.find_spec(_MAIN)
    if spec is None:
        raise SystemExit(f"{sys.executable}: can't find '__main__' module in {where!r}")
    code = _code_of(spec, target.name)
    _furnish(main, file=spec.origin, package="", loader=spec.loader, spec=spec)
    return code, main


def _enter(folder: str, make_way: Callable[[str | None, str], None], *, always: bool = False) -> None:
    """Put ``folder`` first, where python has put our own; ``-P`` and ``-I`` mean neither was wanted."""
    safe = getattr(sys.flags, "safe_path", bool(sys.flags.isolated))
    if safe and not always:
        return
    make_way(None if safe else sys.path[0], folder)
    if safe:
        sys.path.insert(0, folder)
    else:
        sys.path[0] = folder


def _furnish(main: ModuleType, *, file: Any, package: str | None, loader: Any, spec: Any) -> None:
    main.__package__ = package
    main.__loader__ = loader
    main.__spec__ = spec
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    main.__dict__["__builtins__"] = builtins
    main.__file__ = file
    if sys.version_info < (3, 15):
        main.__dict__["__cached__"] = None if spec is None else spec.cached


def _code(path: str) -> CodeType:
    with io.open_code(path) as file:
        compiled: CodeType | None = pkgutil.read_code(file)
    if compiled is not None:
        return compiled
    with io.open_code(path) as file:
        # Bytes, so that an encoding cookie counts; not our own `from __future__` statements.
        return compile(file.read(), path, "exec", dont_inherit=True)


def _runnable(name: str) -> ModuleSpec:
    """The spec of a module, or of the ``__main__`` of a package."""
    if name.startswith("."):
        raise SystemExit(f"{sys.executable}: Relative module names not supported")
    spec = _found(name)
    if spec.submodule_search_locations is None:
        return spec
    return _found(f"{name}.{_MAIN}", f"; {name!r} is a package and cannot be directly executed")


def _found(name: str, hint: str = "") -> ModuleSpec:
    package = name.rpartition(".")[0]
    try:
        spec = importlib.util.find_spec(name)
    except ImportError as error:
        # A package that misses something else has a fault of its own, with a traceback.
        if not package or error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise
        why = f"{type(error).__name__}: {error}"
        raise SystemExit(
            f"{sys.executable}: Error while finding module specification for {name!r} ({why})"
        ) from None
    if spec is None:
        raise SystemExit(f"{sys.executable}: No module named {name}{hint}")
    return spec


def _code_of(spec: ModuleSpec, name: str) -> CodeType:
    get_code = getattr(spec.loader, "get_code", None)
    code: CodeType | None = None if get_code is None else get_code(spec.name)
    if code is None:
        raise SystemExit(f"{sys.executable}: No code object available for {name}")
    return code
