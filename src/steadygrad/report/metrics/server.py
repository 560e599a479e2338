"""The endpoint itself: one thread a request, and no answer for a name that isn't ours."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from steadygrad.report.loopback import ADDRESS, is_here
from steadygrad.report.metrics.collector import RunCollector

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

PATHS = frozenset({"/", "/metrics"})


def metrics_server(place: Path, port: int, address: str = ADDRESS) -> WSGIServer:
    """Make a server that tells the runs of a folder in Prometheus' text format.

    Args:
        place: a folder or a run file; it may not be there yet.
        port: port; 0 takes a free one.
        address: interface to listen on. On the loopback interface, the default, only requests that name this
            machine itself are answered; on another, any: who can reach it may read it.

    Returns:
        The server, listening; ``serve_forever`` answers.

    Raises:
        OSError: the port is taken, or the address isn't this machine's.
    """
    registry = CollectorRegistry()
    registry.register(RunCollector(place))
    app = _guarded(make_wsgi_app(registry), only_here=_is_loopback(address))
    return make_server(address, port, app, _server_class(address), handler_class=_Silent)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking a name server who we are, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Silent(WSGIRequestHandler):
    timeout = 30.0
    """Seconds after which a client that says nothing is let go."""

    def log_message(self, *_: object) -> None:
        """Say nothing: a scrape every few seconds is no news."""


def _guarded(app: Application, *, only_here: bool) -> Application:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if only_here and not is_here(environ.get("HTTP_HOST", "")):
            start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"This server answers to localhost only.\n"]
        if environ.get("PATH_INFO", "") not in PATHS:
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"Metrics are at /metrics.\n"]
        return app(environ, start_response)

    return answer


def _server_class(address: str) -> type[WSGIServer]:
    return _Server6 if ":" in address else _Server


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
