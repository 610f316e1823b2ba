"""A faulty way to a server: some of its answers are errors, some never come, some come late."""

import http.client
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import urlsplit

SLOW_SECONDS = 10.0
"""Longer than any answer of a busy server, shorter than the client's 30 s."""

Fault = str | None
"""``"500"``, ``"503"``, ``"reset"`` (before the server saw it), ``"lost"`` (it did, and its answer
is cut), ``"slow"``, or None."""


@dataclass
class Plan:
    """Which request meets which fault, and what came."""

    fault_of: Callable[[int, str], Fault] = lambda number, line: None
    """Called with the request's number, from 0, and its ``METHOD path``."""
    seen: list[str] = field(default_factory=list)
    met: list[str] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def next(self, line: str) -> Fault:
        """Note a request and return its fault."""
        with self.lock:
            fault = self.fault_of(len(self.seen), line)
            self.seen.append(line)
            if fault:
                self.met.append(fault)
        return fault

    def begin(self, fault_of: Callable[[int, str], Fault]) -> None:
        """Count from 0 again, with other faults."""
        with self.lock:
            self.fault_of = fault_of
            self.seen.clear()
            self.met.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, target: str, plan: Plan) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.plan = target, plan

    def handle_error(self, *_: object) -> None:
        """A connection that was reset is what is wanted here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        fault = self.server.plan.next(f"{self.command} {self.path}")
        if fault == "reset":
            self._reset()
        elif fault in ("500", "503"):
            self._answer(int(fault), [], b"")
        else:
            if fault == "slow":
                time.sleep(SLOW_SECONDS)
            status, headers, content = _ask(self.server.target, self, body)
            if fault == "lost":
                self._answer(status, headers, content, len(content) // 2)
                self._reset()
            else:
                self._answer(status, headers, content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815 (http.server's names)

    def _answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        content: bytes,
        sent: int | None = None,
    ) -> None:
        self.send_response_only(status)
        length = str(len(content))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("content-length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
            self.wfile.flush()

    def _reset(self) -> None:
        self.close_connection = True
        # No lingering: the other side gets a reset and no orderly end (socket(7)).
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()


@contextmanager
def faulty(address: str, plan: Plan) -> Iterator[str]:
    """Stand before an HTTP server, and yield the address to use in its place."""
    with _Server(urlsplit(address).netloc, plan) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(timeout=20)


def _ask(
    target: str, handler: BaseHTTPRequestHandler, body: bytes
) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection(target, timeout=60)
    try:
        connection.request(handler.command, handler.path, body, dict(handler.headers))
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        connection.close()
