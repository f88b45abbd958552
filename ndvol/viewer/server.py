"""ViewServer: the viewer's page over HTTP, for the browser of the person who started it and for nobody else.

It listens on 127.0.0.1 alone. Every address begins with a token that cannot be guessed, so that no other user of the
machine and no page of another site reaches it (a cookie would be sent to every server of 127.0.0.1, whatever its port).
The name in the Host header is checked, so that no name of a stranger's that leads to 127.0.0.1 does.
"""

from __future__ import annotations

import sys
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_urlsafe
from typing import Any
from urllib.parse import urlsplit

from ndvol.catalog import Catalog
from ndvol.viewer.routes import Answer, Routes, json_answer

HOST = "127.0.0.1"
IDLE_SECONDS = 60
"""A connection that says nothing for so long is closed."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class ViewServer(ThreadingHTTPServer):
    """Shows the cases of a catalogue until it is shut down; see `socketserver.BaseServer.serve_forever`.

    Parameters
    ----------
    catalog : whose cases are shown.
    case : name of the one to show first; the catalogue's first by default.
    port : to listen on; 0 for a free one.

    Attributes
    ----------
    token : the first part of every path, made anew for each server.
    url : of the page.

    Raises
    ------
    UnknownNameError : when there is no such case. OSError : when the port is taken.
    """

    daemon_threads = True

    def __init__(self, catalog: Catalog, case: str | None = None, port: int = 0) -> None:
        self.routes = Routes(catalog, case)
        self.token = token_urlsafe(24)
        super().__init__((HOST, port), _Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A browser that scrolls on drops the requests for what it has left.
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "ndvol", ""
    timeout = IDLE_SECONDS
    # The head and the body of an answer leave in two pieces, the second of which would wait for the first's receipt.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        try:
            answer = self._answer()
        except Exception:
            self._send(json_answer({"error": "the viewer itself failed; its terminal says how", "code": "bug"}, 500))
            raise
        self._send(answer)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self) -> Answer:
        if self.headers.get_all("Host", []) not in [[host] for host in self.server.hosts]:
            return _refusal(403, "host", "this name is not served")
        try:
            parts = urlsplit(self.path)
        except ValueError:
            return _refusal(400, "address", "the address cannot be read")
        token, _, path = parts.path.removeprefix("/").partition("/")
        if not compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()):
            return _refusal(403, "token", "the address lacks the token that `ndvol view` printed")
        return self.server.routes.answer(path, parts.query) or _refusal(404, "path", "there is nothing at this address")

    def _send(self, answer: Answer) -> None:
        tag = answer.headers.get("ETag")
        same = tag is not None and tag == self.headers.get("If-None-Match")
        body = b"" if same else answer.body
        self.send_response(304 if same else answer.status)
        sent = {"Content-Type": answer.type, "Content-Length": str(len(body)), "Cache-Control": answer.cache}
        for name, value in {**HEADERS, **answer.headers, **sent}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class cannot parse, or no `do_` method takes, is told in the same form as all else."""
        self.close_connection = True
        self._send(_refusal(code, "request", message or "this request is not served"))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for the address and for trouble."""


def _refusal(status: int, code: str, text: str) -> Answer:
    return json_answer({"error": text, "code": code}, status)
