"""What a page is told in words, and what its reader looks at."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from bokeh.models import ColumnDataSource, CustomJS

ALIVE_EVERY_S = 2.0
"""A page that hears nothing for 6 s says that the server is gone."""

PAGE = "page"
"""What a page that is seen at all names beside the sections in view."""

_TELL = 'document.dispatchEvent(new CustomEvent("steadygrad:live", {detail: source.data}))'


class Telling:
    """Sends parts of the page when they change.

    Args:
        attention: a model the browser has to know too.

    Attributes:
        source: what carries them.
    """

    def __init__(self, attention: Attention) -> None:
        self.source = ColumnDataSource({"key": [], "html": []}, name="words")
        known = {"source": self.source, "attention": attention.source}
        self.source.js_on_change("data", CustomJS(args=known, code=_TELL))
        self._said: dict[str, str] = {}
        self._sent: dict[str, str] = {}
        self._spoke_s = float("-inf")

    def begin(self, fragments: Mapping[str, str]) -> None:
        """Take note of what the page holds when it opens."""
        self._said |= fragments
        self._sent |= fragments

    def say(self, fragments: Mapping[str, str]) -> None:
        """Have parts sent, by key."""
        self._said |= fragments

    def silent_s(self) -> float:
        """Seconds since the page last heard anything."""
        return time.monotonic() - self._spoke_s

    def send(self, *, again: bool) -> None:
        """Send what the page doesn't hold yet; a sign of life where that is nothing.

        Args:
            again: ask the page to load itself again.
        """
        new = {key: html for key, html in self._said.items() if self._sent.get(key) != html}
        self._sent |= new
        if again:
            new["again"] = ""
        if not new and self.silent_s() < ALIVE_EVERY_S:
            return
        self._spoke_s = time.monotonic()
        # Equal data would not be sent.
        new["at"] = repr(self._spoke_s)
        self.source.data = {"key": list(new), "html": list(new.values())}

    def repeat(self) -> None:
        """Say everything again: the browser wasn't listening before."""
        self._sent.clear()
        self._spoke_s = float("-inf")


class Attention:
    """What the reader has in view, as the browser tells.

    Attributes:
        source: what carries it: the keys of sections, and `PAGE`; nothing where the page is hidden. Its tags say of the
            newest pictures that were painted which they were, and how many seconds that took.
    """

    def __init__(self) -> None:
        self.source = ColumnDataSource({"key": []}, name="attention")
        self._seen: frozenset[str] | None = None

    def on_painted(self, then: Callable[[str, float], None]) -> None:
        """Call back with number and seconds when pictures have been painted."""

        def changed(_attribute: str, _old: object, new: list[Any]) -> None:
            number, took_s = new
            then(str(number), float(took_s))

        self.source.on_change("tags", changed)

    def on_change(self, then: Callable[[], None]) -> None:
        """Call back when the reader looks elsewhere."""

        def changed(_attribute: str, _old: object, new: Mapping[str, Any]) -> None:
            self._seen = frozenset(map(str, new.get("key", ())))
            then()

        self.source.on_change("data", changed)

    def on(self, key: str) -> bool:
        """Whether this is in view; before the browser has told anything, everything is."""
        return self._seen is None or key in self._seen
