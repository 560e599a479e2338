"""Do something as soon as a module has been imported, by whoever imports it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


class OnImport:
    """Waits on ``sys.meta_path`` for one module, and is gone once that has been imported.

    It finds nothing by itself: it asks the other finders and lets their loader call back after it has
    run the module. Nothing is left on the loader then. A search that imports nothing
    (``importlib.util.find_spec``) leaves it waiting, and so does an import that fails.

    Args:
        name: the module, with its packages.
        then: called once, with the module's import complete and its importer still waiting.
    """

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then
        self._searching = False

    def wait(self) -> None:
        """Wait from now on; a module that is there already has been imported."""
        if self._name in sys.modules:
            self._then()
        else:
            sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Wait no longer."""
        with suppress(ValueError):
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called by the import system for every module that isn't loaded yet."""
        del path, target
        if name != self._name or self._searching:
            return None
        self._searching = True
        try:
            spec = find_spec(name)
        finally:
            self._searching = False
        loader = None if spec is None else spec.loader
        if loader is not None:
            run_module = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                del loader.__dict__["exec_module"]
                run_module(module)
                self.stop()
                self._then()

            loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
