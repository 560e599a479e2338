"""Keep the script's modules and ours apart.

A folder of scripts may hold a ``statistics.py`` of its own. Under plain python the script's ``import
statistics`` finds that file. Under us it must find it too, though we have imported the standard
one; and we must not find theirs. So what the folder would shadow is put away before the script
starts, and comes back only while modules of ours are being imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import all_suffixes
from pathlib import Path
from types import ModuleType

# What arming needs from the standard library and torch doesn't bring. Imported in time: found on the
# path as it is before the script's folder is part of it.
_NEEDED = ("bisect", "itertools", "logging", "sqlite3", "sqlite3.dbapi2", "sysconfig", "tempfile", "zlib")
# Imported by every interpreter before the first line of a script, which can't shadow them.
_AT_START = frozenset(
    {"abc", "codecs", "encodings", "genericpath", "io", "ntpath", "os", "posixpath", "site", "stat"}
    | {"_collections_abc", "_sitebuiltins", "sitecustomize", "usercustomize", "zipimport", "importlib"}
    | {"__main__", "steadygrad"}
)


_OUR_FOLDER = Path(__file__).parents[2]


class OwnModules:
    """The modules we have imported, where the script's folder holds others of the same name.

    Attributes:
        namesake: the script's folder, where it holds a ``steadygrad`` that isn't this one: the one name
            that can't make way.
    """

    def __init__(self) -> None:
        for name in _NEEDED:
            import_module(name)
        self._path = list(sys.path)
        self.namesake: str | None = None
        self._names: frozenset[str] = frozenset()
        self._put_away: dict[str, ModuleType] = {}

    def make_way(self, replaced: str | None, folder: str) -> None:
        """Forget what ``folder`` shadows; call it before the script's path is set.

        Args:
            replaced: first entry of ``sys.path``, where the script's folder takes its place.
            folder: the folder that is searched first from now on.
        """
        if replaced is not None:
            self._path = self._path[1:]
        names = _module_names(folder)
        if "steadygrad" in names and Path(folder).resolve() != _OUR_FOLDER.resolve():
            self.namesake = folder
        self._names = names - _AT_START - set(sys.builtin_module_names)
        self._put_away = {name: sys.modules.pop(name) for name in self._shadowed(sys.modules)}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Import modules of ours here: nothing comes from the script's folder, nothing stays behind."""
        theirs, path = {name: sys.modules[name] for name in self._shadowed(sys.modules)}, sys.path[:]
        for name in theirs:
            del sys.modules[name]
        sys.modules.update(self._put_away)
        sys.path[:] = self._path
        try:
            yield
        finally:
            sys.path[:] = path
            self._put_away = {name: sys.modules.pop(name) for name in self._shadowed(sys.modules)}
            sys.modules.update(theirs)

    def _shadowed(self, names: Iterator[str] | dict[str, ModuleType]) -> list[str]:
        return [name for name in list(names) if name.partition(".")[0] in self._names]


def _module_names(folder: str) -> frozenset[str]:
    """Names of the modules and packages that lie in a folder."""
    names = set()
    try:
        entries = [path.name for path in Path(folder).iterdir()]
    except OSError:
        return frozenset()
    for entry in entries:
        suffix = next((suffix for suffix in all_suffixes() if entry.endswith(suffix)), None)
        if suffix is not None:
            names.add(entry.removesuffix(suffix))
        elif (Path(folder) / entry / "__init__.py").is_file():
            names.add(entry)
    return frozenset(names)
