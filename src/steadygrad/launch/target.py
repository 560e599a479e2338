"""What to run: a script, a folder or zip with a ``__main__.py``, a console script, a module."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from steadygrad.errors import UsageError

_MAGIC_BYTES = 2


@dataclass(frozen=True, slots=True)
class Target:
    """A program and its own arguments.

    Attributes:
        name: path of a file or folder as it was typed, or the name of a module.
        args: what comes after it, untouched.
        is_module: it was given with ``-m``.
    """

    name: str
    args: tuple[str, ...]
    is_module: bool = False

    @property
    def title(self) -> str:
        """A short name, fit for a file: ``train`` of ``src/train.py``, ``pkg.train`` of ``-m pkg.train``."""
        if self.is_module:
            return self.name
        path = Path(self.name).resolve()
        # `python -m pkg` and `python pkg/__main__.py` are known by their package.
        return (path.parent.name if path.stem == "__main__" else path.stem) or "run"


def find_target(words: Sequence[str]) -> Target:
    """Take the part of the command line that is the script's.

    Args:
        words: from ``-m``, or from the first word that is no option of ours, to the end.

    Raises:
        UsageError: there is no script in it, or no such file.
    """
    if not words or not words[0]:
        raise UsageError("which script? For example: steadygrad run train.py --epochs 3")
    first, *rest = words
    if first == "-m":
        if not rest:
            raise UsageError("-m needs the name of a module: steadygrad run -m package.module args...")
        return Target(rest[0], tuple(rest[1:]), is_module=True)
    if first == "-":
        raise UsageError("a script on stdin can't be run; write it to a file first.")
    if Path(first).exists():
        return Target(first, tuple(rest))
    return Target(_on_path(first), tuple(rest))


def _on_path(name: str) -> str:
    """A console script such as ``yolo``; the shell would find it too."""
    found = shutil.which(name) if Path(name).name == name else None
    if found is None:
        raise UsageError(f"there is no file {name!r} here.{_hint(name)}")
    if not _is_python(Path(found)):
        raise UsageError(
            f"{found} is no Python script. Give the script itself: steadygrad run train.py args..."
        )
    return found


def _is_python(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            first = file.readline(512)
    except OSError:
        return False
    # A console script made by pip may start python through /bin/sh where its path is long.
    return first[:_MAGIC_BYTES] == b"#!" and (b"python" in first or b"/bin/sh" in first)


def _hint(name: str) -> str:
    path = Path(name)
    if path.suffix == "" and path.with_suffix(".py").is_file():
        return f" Did you mean {path.with_suffix('.py')}?"
    try:
        names = [one.name for one in path.parent.iterdir() if one.suffix == ".py"]
    except OSError:
        return f" There is no folder {path.parent} either."
    near = get_close_matches(path.name, names, n=1)
    return f" Did you mean {path.parent / near[0]}?" if near else ""
