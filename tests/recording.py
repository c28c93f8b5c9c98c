"""A line between nodes and their SuperLink that writes down what the nodes say.

It ends the nodes' TLS with the SuperLink's own certificate, as a reverse proxy does,
and speaks TLS to the SuperLink; so both sides are started as they always are.
"""

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sims.processes.credentials import Credentials

SECONDS = 60.0
OWN = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}
"""Headers of one line alone; the next has its own."""


@dataclass(frozen=True)
class Recording:
    """What was said.

    Attributes:
        port: Where nodes find the SuperLink.
        said: Each request with its first line, its headers and its body.
    """

    port: int
    said: list[bytes]


@contextmanager
def recorded(port: int, credentials: Credentials) -> Iterator[Recording]:
    """Forward requests from a port of its own, and the answers back.

    Args:
        port: Where the SuperLink listens.
        credentials: With its certificate.
    """
    trusted = ssl.create_default_context(cafile=str(credentials.authority))
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(credentials.server_certificate, credentials.server_key)
    said: list[bytes] = []
    line = type("Line", (_Line,), {"said": said, "trusted": trusted, "target": port})
    server = ThreadingHTTPServer(("127.0.0.1", 0), line)
    server.daemon_threads = True
    server.socket = shown.wrap_socket(server.socket, server_side=True)
    recording = Recording(server.server_address[1], said)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield recording
    finally:
        server.shutdown()
        server.server_close()


class _Line(BaseHTTPRequestHandler):
    """Records a request and forwards it."""

    protocol_version = "HTTP/1.1"
    said: list[bytes]
    trusted: ssl.SSLContext
    target: int

    def do_POST(self) -> None:
        """Forward a request; the name is the library's."""
        body = self._body()
        self.said.append(f"{self.requestline}\n{self.headers}".encode() + body)
        link = HTTPSConnection(
            "127.0.0.1", self.target, timeout=SECONDS, context=self.trusted
        )
        try:
            link.request(
                self.command, self.path, body, _without_own(dict(self.headers))
            )
            answer = link.getresponse()
            data = answer.read()
        finally:
            link.close()
        self.send_response(answer.status)
        for name, value in _without_own(dict(answer.headers)).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_: object) -> None:
        """Nothing: what is said is kept."""


def _without_own(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in headers.items() if name.lower() not in OWN}
