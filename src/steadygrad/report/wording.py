"""How numbers, names and times are written for a person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone


def plural(count: int, noun: str) -> str:
    """Write a count with its noun.

    Example:
        >>> plural(1, "step"), plural(1200, "step"), plural(0, "loss")
        ('1 step', '1,200 steps', '0 losses')
    """
    ending = "" if count == 1 else "es" if noun.endswith(("s", "x", "ch")) else "s"
    return f"{count:,} {noun}{ending}"


def number(value: float) -> str:
    """Write a number with three significant digits, or whole where it is whole and not huge.

    Example:
        >>> number(0.012345), number(412.0), number(3.2e17), number(float("nan"))
        ('0.0123', '412', '3.2e+17', 'nan')
    """
    if math.isfinite(value) and value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Write a time span in its two largest units.

    Example:
        >>> duration(0.21), duration(75), duration(3 * 3600 + 120), duration(200_000)
        ('0.21 s', '1 min 15 s', '3 h 2 min', '2 d 7 h')
    """
    if not math.isfinite(seconds) or seconds < 60:
        return f"{seconds:.2g} s"
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    whole = round(seconds)
    first = next(i for i, (_, size) in enumerate(units) if whole >= size)
    parts = []
    for unit, size in units[first : first + 2]:
        count, whole = divmod(whole, size)
        parts += [f"{count} {unit}"] if count else []
    return " ".join(parts)


def moment(seconds: float) -> str:
    """Write a time since the epoch as date and minute, UTC; empty where none was recorded.

    Example:
        >>> moment(1_700_000_000)
        '2023-11-14 22:13 UTC'
    """
    try:
        when = datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):
        return ""
    return f"{when:%Y-%m-%d %H:%M} UTC" if seconds > 0 else ""


def some(names: Sequence[str], most: int = 3) -> str:
    """List the first few names and count the rest.

    Example:
        >>> some(["a", "b"]), some(["a", "b", "c", "d", "e"])
        ('a, b', 'a, b, c and 2 more')
    """
    rest = len(names) - most
    return ", ".join(map(visible, names[:most])) + (f" and {rest:,} more" if rest > 0 else "")


def visible(text: str) -> str:
    r"""Replace what a terminal would obey by what a person can read.

    Names come from run files, and run files come from anywhere: an escape sequence in a tensor's
    name must not reach the terminal.

    Example:
        >>> visible("layer\x1b[2J\n.weight")
        'layer\\x1b[2J\\n.weight'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def layer(name: str) -> str:
    """Call a module by its name; one that is called by a number is said to be a layer.

    Example:
        >>> layer("20"), layer("3.1"), layer("blocks.3"), layer("20.weight")
        ('layer 20', 'layer 3.1', 'blocks.3', '20.weight')
    """
    return f"layer {name}" if name.replace(".", "").isdecimal() else visible(name)


def share(part: int, whole: int) -> str:
    """Write ``part`` of ``whole`` in percent, never rounded to none or all.

    Example:
        >>> share(1, 3), share(1, 100_000), share(99_999, 100_000)
        ('33 %', '< 1 %', '> 99 %')
    """
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 1:
        return "< 1 %"
    return "> 99 %" if 99 < percent < 100 else f"{percent:.0f} %"
