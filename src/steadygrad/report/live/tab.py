"""One browser tab: a document of its own, kept up to date while the run writes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields
from importlib.resources import files
from typing import Any

from bokeh.document import Document
from bokeh.models import CustomJS

from steadygrad.report.live.drawing import Drawing
from steadygrad.report.live.fragments import runs_fragment, state_fragment
from steadygrad.report.live.hub import Hub
from steadygrad.report.live.pace import Pace
from steadygrad.report.live.shown import Shown, move_steps
from steadygrad.report.live.telling import PAGE, Attention, Telling
from steadygrad.report.page.document import page_template, variables
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.script import script
from steadygrad.report.page.sections import Draft
from steadygrad.report.wording import visible
from steadygrad.runfile.following import DAMAGE

TICK_MS = 250
"""With a writer that stores a step within a second, this shows it well within two."""

AGES_EVERY_S = 1.0
"""The newest step gets older, and runs come and go, while this one writes nothing."""

_READY = "document.dispatchEvent(new Event('steadygrad:ready'))"


class Tab:
    """What one tab shows.

    Args:
        document: its document, empty.
        hub: the runs.
        name: name of the file it asked for; None for the newest run.

    Attributes:
        path: the run it shows; None where there is none yet.
    """

    def __init__(self, document: Document, hub: Hub, name: str | None) -> None:
        self._document, self._hub = document, hub
        self.path = hub.path_of(name)
        self._watched = hub.watch(self.path) if self.path else None
        self._drawing = self._watched.look() if self._watched else None
        self._outgrown = self._damaged = False
        self._attention = Attention()
        self._telling, self._pace = Telling(self._attention), Pace()
        self._steps = look.step_range(self._drawing.columns) if self._drawing else None
        self._shown = {draft.key: Shown(draft, self._steps) for draft in self._first() if self._steps}
        self._open(name)
        self._attention.on_painted(self._pace.painted)
        self._attention.on_change(self._look_elsewhere)

    def tick(self) -> None:
        """Show what is new, to a reader who looks."""
        if not self._attention.on(PAGE):
            return
        self._hub.look()
        drawing, shown = self._watched.look() if self._watched else None, self._drawing
        if self._watched is None:
            self._outgrown = self._hub.path_of(None) is not None
        elif drawing is not None:
            self._drawing = drawing
            self._show(drawing)
        if drawing is not shown or self._telling.silent_s() >= AGES_EVERY_S:
            self._telling.say(self._words(time.time()))
        self._telling.send(again=self._outgrown and not self._damaged)

    def _look_elsewhere(self) -> None:
        self._pace.hurry()
        self.tick()

    def _first(self) -> Sequence[Draft]:
        """The sections a page opens with."""
        watched, drawing = self._watched, self._drawing
        if watched is None or watched.run is None or drawing is None or drawing.course is None:
            return ()
        try:
            return [drawing.course, *watched.tensors.first(watched.run, drawing.version)]
        except DAMAGE:
            self._damaged = True
            return ()

    def _show(self, drawing: Drawing) -> None:
        """New numbers into the pictures in view."""
        drafts = self._newest(drawing)
        fit = drafts.keys() == self._shown.keys() and all(
            self._shown[key].fits(draft) for key, draft in drafts.items()
        )
        if not fit:
            self._outgrown = True
            return
        late = [key for key, draft in drafts.items() if self._shown[key].draft is not draft]
        wanted = [key for key in late if self._attention.on(key)]
        now_s = time.monotonic()
        if not wanted or self._steps is None or not self._pace.due(now_s):
            return
        self._telling.say({"drawn": self._pace.sent(now_s)})
        self._document.hold("combine")
        try:
            for key in wanted:
                self._shown[key].renew(drafts[key])
                self._telling.say({f"words:{key}": drafts[key].words, f"hint:{key}": drafts[key].hint})
            move_steps(self._steps, look.step_range(drawing.columns))
        finally:
            self._document.unhold()

    def _newest(self, drawing: Drawing) -> dict[str, Draft]:
        """The sections as last prepared; those of all tensors are asked for where any of them is in view."""
        watched = self._watched
        if watched is None or watched.run is None or drawing.course is None:
            return {}
        course = drawing.course.key
        if any(self._attention.on(key) for key in self._shown if key != course):
            watched.tensors.renew(watched.run, drawing.version)
        return {draft.key: draft for draft in (drawing.course, *(watched.tensors.drafts or ()))}

    def _open(self, name: str | None) -> None:
        """Fill the document with what there is now."""
        page, fragments = self._page(name)
        self._telling.begin(fragments)
        document = self._document
        document.title = page["title"]
        document.template = page_template("live.html")
        document.template_variables.update(_with_style(variables(page)))
        with document.models.freeze():
            for shown in self._shown.values():
                for model in shown.section.models:
                    document.add_root(model)
            document.add_root(self._telling.source)
        for model in document.models:
            # What scripts draw in the browser is nothing the server has to know.
            model.syncable = model is self._steps or model is self._attention.source
        document.js_on_event("document_ready", CustomJS(code=_READY))
        document.on_event("document_ready", lambda _: self._telling.repeat())

    def _page(self, name: str | None) -> tuple[dict[str, Any], dict[str, str]]:
        """What the template says, and the parts that will be put in place of each other."""
        fragments = {"head": "", **self._words(time.time())}
        page: dict[str, Any] = {
            "name": name or "steadygrad",
            "byline": _no_run(name, self._hub),
            "environment": (),
        }
        if self._drawing is not None:
            words = self._drawing.words
            page |= {field.name: getattr(words, field.name) for field in fields(words)}
        page |= {
            "title": f"{visible(page['name'])}: steadygrad live",
            "paths": [self.path or str(self._hub.place)],
            "made": "",
            "several": self._hub.is_folder,
            "fragments": fragments,
            "sections": [shown.section for shown in self._shown.values()],
            "live": script("live.js"),
        }
        return page, fragments

    def _words(self, now_s: float) -> dict[str, str]:
        """All parts of the page there are words for; each message has a browser compose the page anew."""
        known = self._drawing.fragments if self._drawing else {}
        return {"state": self._state(now_s), "runs": self._runs(now_s), **known}

    def _state(self, now_s: float) -> str:
        if self._watched is None:
            return state_fragment(None, None, "", now_s)
        if self._damaged:
            fault = f"{self.path} is damaged: its norms can't be unpacked."
            return state_fragment(None, None, fault, now_s)
        return state_fragment(self._watched.run, self._watched.vitals, self._watched.fault, now_s)

    def _runs(self, now_s: float) -> str:
        return runs_fragment(self._hub.runs, str(self._hub.place), self.path, now_s)


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
