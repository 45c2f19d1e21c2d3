"""A plain web server on loopback: files of a folder, with ranges, without listings; behind a proxy that can fail."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from faulty_proxy import FaultyProxy


@contextmanager
def web_server(root: Path) -> Iterator[FaultyProxy]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = root / unquote(self.path).lstrip("/")
            if not path.is_file():
                return self.send_error(404)
            data = path.read_bytes()
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            part = data[int(found[1]) : int(found[2]) + 1] if found else data
            self.send_response(206 if found else 200)
            if found:
                self.send_header("Content-Range", f"bytes {found[1]}-{int(found[1]) + len(part) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(part)
            return None

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy = FaultyProxy(server.server_port)
    try:
        yield proxy
    finally:
        proxy.close()
        server.shutdown()
        server.server_close()
