"""One browser tab: a document of its own, kept up to date while the run writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from importlib.resources import files
from typing import Any

from bokeh.document import Document
from bokeh.models import ColumnDataSource, CustomJS, Range1d

from steadygrad.report.live.drawing import Drawing
from steadygrad.report.live.fragments import run_fragments, runs_fragment, state_fragment
from steadygrad.report.live.graft import STEPS, build_of, graft, move_steps
from steadygrad.report.live.hub import Hub
from steadygrad.report.live.redraw import Redrawer
from steadygrad.report.page.document import page_template, variables
from steadygrad.report.page.figures.script import script
from steadygrad.report.page.sections import Section, sections
from steadygrad.report.wording import visible
from steadygrad.runfile.following import DAMAGE

TICK_MS = 250
"""With a writer that stores a step within a second, this shows it well within two."""

COURSE = "course"

_READY = "document.dispatchEvent(new Event('steadygrad:ready'))"
_TELL = 'document.dispatchEvent(new CustomEvent("steadygrad:live", {detail: source.data}))'


class Tab:
    """What one tab shows.

    Args:
        document: its document, empty.
        hub: the runs.
        name: name of the file it asked for; None for the newest run.
        submit: has work done by another thread, so that the course never waits for pictures of all tensors.

    Attributes:
        path: the run it shows; None where there is none yet.
    """

    def __init__(
        self, document: Document, hub: Hub, name: str | None, submit: Callable[[Callable[[], None]], object]
    ) -> None:
        self._document, self._hub = document, hub
        self.path = hub.path_of(name)
        self._watched = hub.watch(self.path) if self.path else None
        self._shown = self._watched.look() if self._watched else None
        self._said: dict[str, str] = {}
        self._sent: dict[str, str] = {}
        self._words = ColumnDataSource({"key": [], "html": []}, name="words")
        self._outgrown = self._damaged = False
        self._sections = self._draw_sections()
        version = self._shown.version if self._shown else 0
        heavy = [part for part in self._sections if part.key != COURSE]
        self._redrawer = Redrawer(document, heavy, submit, version)
        self._open(name)

    def tick(self) -> None:
        """Show what is new."""
        self._hub.look()
        news: dict[str, str] = {}
        drawing = self._watched.look() if self._watched else None
        if self._watched is None:
            self._outgrown = self._hub.path_of(None) is not None
        elif drawing is not None and drawing is not self._shown:
            news = self._renew(drawing)
            self._shown = drawing
        run = self._watched.run if self._watched else None
        if run is not None and drawing is not None:
            self._outgrown |= not self._redrawer.tick(run, drawing.version, self._steps())
        self._said |= {"state": self._state(), "runs": self._runs(), **news}
        self._send()

    def _draw_sections(self) -> list[Section]:
        run = self._watched.run if self._watched else None
        if run is None or self._shown is None:
            return []
        try:
            return sections(run, self._shown.words.cards, run.findings)
        except DAMAGE:
            self._damaged = True
            return []

    def _open(self, name: str | None) -> None:
        """Fill the document with what there is now."""
        page, fragments = self._page(name)
        self._said |= fragments
        self._sent |= fragments
        document = self._document
        document.title = page["title"]
        document.template = page_template("live.html")
        document.template_variables.update(_with_style(variables(page)))
        for part in self._sections:
            for model in part.models:
                document.add_root(model)
        self._words.js_on_change("data", CustomJS(args={"source": self._words}, code=_TELL))
        document.add_root(self._words)
        document.js_on_event("document_ready", CustomJS(code=_READY))
        # What was said before the browser listened is said again.
        document.on_event("document_ready", lambda _: self._sent.clear())

    def _page(self, name: str | None) -> tuple[dict[str, Any], dict[str, str]]:
        """What the template says, and the parts that will be put in place of each other."""
        fragments = {"state": self._state(), "runs": self._runs(), "head": ""}
        page: dict[str, Any] = {
            "name": name or "steadygrad",
            "byline": _no_run(name, self._hub),
            "environment": (),
        }
        if self._shown is not None:
            words = self._shown.words
            page |= {field.name: getattr(words, field.name) for field in fields(words)}
            fragments |= run_fragments(words)
        page |= {
            "title": f"{visible(page['name'])}: steadygrad live",
            "paths": [self.path or str(self._hub.place)],
            "made": "",
            "several": self._hub.is_folder,
            "fragments": fragments,
            "sections": self._sections,
            "live": script("live.js"),
        }
        return page, fragments

    def _renew(self, drawing: Drawing) -> dict[str, str]:
        """New numbers into the course; gives the words to send."""
        shown = next((part.models for part in self._sections if part.key == COURSE), ())
        if build_of(shown) != drawing.build:
            self._outgrown = True
            return run_fragments(drawing.words)
        self._document.hold("combine")
        try:
            graft(shown, drawing.figures)
            if steps := self._steps():
                move_steps(steps, drawing.steps)
        finally:
            self._document.unhold()
        return run_fragments(drawing.words)

    def _steps(self) -> Range1d | None:
        """The range that all pictures share."""
        return next(iter(self._document.select({"type": Range1d, "name": STEPS})), None)

    def _state(self) -> str:
        if self._watched is None:
            return state_fragment(None, None, "", time.time())
        if self._damaged:
            fault = f"{self.path} is damaged: its norms can't be unpacked."
            return state_fragment(None, None, fault, time.time())
        return state_fragment(self._watched.run, self._watched.vitals, self._watched.fault, time.time())

    def _runs(self) -> str:
        return runs_fragment(self._hub, self.path, time.time())

    def _send(self) -> None:
        """Send the words that differ from those sent before; the state always, as a sign of life."""
        new = {key: html for key, html in self._said.items() if key == "state" or self._sent.get(key) != html}
        self._sent |= new
        if self._outgrown and not self._damaged:
            new["again"] = ""
        self._words.data = {"key": list(new), "html": list(new.values())}


def asked_for(arguments: dict[str, list[bytes]]) -> str | None:
    """The name of a run in the query of a request; None where none is named."""
    given = arguments.get("run", [])
    return given[-1].decode("utf-8", "surrogateescape") if given else None


def _no_run(name: str | None, hub: Hub) -> str:
    if name is not None:
        return f"There is no run of this name in {hub.place}."
    return f"No run in {hub.place} yet. This page shows the first one when it begins."


def _with_style(known: dict[str, Any]) -> dict[str, Any]:
    style = (files("steadygrad.report.page") / "styles" / "live.css").read_text("utf-8")
    return {**known, "style": f"{known['style']}{style}"}
