"""Who may ask, and what is answered: Bokeh's server, for this machine alone."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import RequestHandler

from steadygrad.report.live.hub import Hub
from steadygrad.report.live.tab import TICK_MS, Tab, asked_for
from steadygrad.report.loopback import ADDRESS, is_here

LOOPBACK_ORIGINS = frozenset({"localhost:*", "127.0.0.1:*", "[::1]:*"})


class LiveServer:
    """Serves the runs of a folder as pages on the loopback interface.

    Args:
        place: a folder or a run file; it may not be there yet.
        port: port; 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, place: Path, port: int) -> None:
        # Their notes about connections that come and go would drown the one line that says where to look.
        for name in ("bokeh", "tornado"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._workers = ThreadPoolExecutor(1, "steadygrad-pictures")
        self._hub = Hub(place, self._workers.submit)
        self._tabs: set[Tab] = set()
        sockets = bind_sockets(port, ADDRESS)
        self.port: int = sockets[0].getsockname()[1]
        app = OnlyHere(
            {"/": Application(FunctionHandler(self._open))}, extra_websocket_origins=LOOPBACK_ORIGINS
        )
        http = HTTPServer(app)
        http.add_sockets(sockets)
        self._loop = IOLoop.current()
        self._server = BaseServer(self._loop, app, http)

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{ADDRESS}:{self.port}/"

    def run(self) -> None:
        """Answer until `stop`, or a KeyboardInterrupt."""
        self._server.start()
        try:
            self._loop.start()
        finally:
            self._server.stop()
            self._workers.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """End `run`, from any thread."""
        self._loop.add_callback(self._loop.stop)

    def _open(self, document: Document) -> None:
        context: Any = document.session_context
        arguments: dict[str, list[bytes]] = context.request.arguments
        tab = Tab(document, self._hub, asked_for(arguments))
        self._tabs.add(tab)

        def tick() -> None:
            # A closed tab's document lives on for a while, and one that is being opened can't listen yet.
            if context.session.connection_count:
                tab.tick()

        document.add_periodic_callback(tick, TICK_MS)

        def close(_: Any) -> None:
            self._tabs.discard(tab)
            self._hub.forget({one.path for one in self._tabs if one.path})

        document.on_session_destroyed(close)


class OnlyHere(BokehTornado):  # type: ignore[misc]  # Bokeh's types aren't read here
    """Bokeh's application, deaf to requests under another name than this machine's, or from another page."""

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Choose who answers; the question is looked at before its path."""
        if not is_here(request.headers.get("Host", "")) or not _same_origin(request):
            return self.get_handler_delegate(request, Refused)
        return super().find_handler(request, **kwargs)


class Refused(RequestHandler):
    """What a stranger gets."""

    def prepare(self) -> None:
        """Answer whatever the method."""
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("This server answers pages of its own on this machine only.\n")


def _same_origin(request: HTTPServerRequest) -> bool:
    """Whether a request comes from a page of ours, or from no page at all.

    A browser says where a page that asks comes from. A page of another server on this machine, on another
    port, is a stranger too; through a tunnel both name the tunnel's end.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    return urlsplit(origin).netloc.lower() == request.headers.get("Host", "").strip().lower()
