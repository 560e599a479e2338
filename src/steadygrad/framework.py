"""Is the framework there, and new enough? Said before anything else goes wrong."""

from __future__ import annotations

import re
from importlib import metadata

from steadygrad.errors import FrameworkMissing


def require(package: str, oldest: str, extra: str) -> None:
    """Raise a FrameworkMissing unless ``package`` is installed in a version that works.

    Args:
        package: name of the distribution.
        oldest: first version with what we attach to.
        extra: the extra of steadygrad that installs it.

    Raises:
        FrameworkMissing: it is absent or older.

    Example:
        >>> require("numpy", "1.20", extra="all")
        >>> require("numpy", "999.0", extra="all")    # doctest: +ELLIPSIS
        Traceback (most recent call last):
        steadygrad.errors.FrameworkMissing: numpy 999.0 or newer is needed here; ... is installed. Install it ...
    """
    try:
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        installed = ""
    if installed and _numbers(installed) >= _numbers(oldest):
        return
    found = f"{installed} is installed" if installed else "it is not installed"
    raise FrameworkMissing(
        f"{package} {oldest} or newer is needed here; {found}. Install it with "
        f'pip install --upgrade "{package}>={oldest}", or with steadygrad: pip install "steadygrad[{extra}]".'
    )


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version; what comes behind it (``rc1``, ``.dev0``, ``+cpu``) decides nothing here."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, release.group().split("."))) if release else ()
