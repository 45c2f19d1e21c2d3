"""A loopback proxy in front of a server that fails as networks and services do, on demand."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DROP, FAIL, CUT, LOSE, SLOW, FORBID = "drop", "fail", "cut", "lose", "slow", "forbid"
"""The connection ends before the request is passed on; 500; the answer's body ends in its middle; the request is done
but its answer is lost; the answer is late; 403."""


class FaultyProxy:
    """Forwards HTTP to `port`; the next requests meet `faults`, first come first, then all go well."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.faults: deque[str] = deque()
        self.choose: Callable[[], str] = lambda: ""
        """What meets a request when no faults wait."""
        self.requests: list[tuple[str, str, str]] = []
        """(method, path, range)."""
        self.delay_seconds = 0.3
        self.lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.handle(self)

            do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = handle_any

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self.lock:
            self.requests.append((request.command, request.path, request.headers.get("Range", "")))
            fault = self.faults.popleft() if self.faults else self.choose()
        if fault == DROP:
            return _hang_up(request)
        if fault in (FAIL, FORBID):
            status, code = (500, "InternalError") if fault == FAIL else (403, "AccessDenied")
            return _answer(request, status, {}, f"<Error><Code>{code}</Code></Error>".encode())
        upstream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
        upstream.request(request.command, request.path, body, headers)
        response = upstream.getresponse()
        data = response.read()
        upstream.close()
        if fault == LOSE:
            return _hang_up(request)
        if fault == SLOW:
            time.sleep(self.delay_seconds)
        _answer(request, response.status, dict(response.getheaders()), data, cut=fault == CUT)
        return None


def _answer(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes, *,
            cut: bool = False) -> None:  # fmt: skip
    request.send_response(status)
    headers = {name.lower(): value for name, value in headers.items()}
    length = headers["content-length"] if request.command == "HEAD" and "content-length" in headers else str(len(data))
    for name in headers.keys() - {"connection", "transfer-encoding", "content-length", "date", "server"}:
        request.send_header(name, headers[name])
    request.send_header("Content-Length", length)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data[: len(data) // 2] if cut else data)
    if cut:
        _hang_up(request)


def _hang_up(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True
    request.wfile.flush()
    request.connection.shutdown(socket.SHUT_RDWR)
