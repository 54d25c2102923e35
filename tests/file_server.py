"""An HTTP server on this machine for tests of downloads, which misbehaves as it is told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What the server sends, and what it was asked for.

    Attributes:
        files: path -> content.
        address: of the server, without a slash at its end.
        drops: path -> after how many bytes each of the next connections ends.
        redirects: path -> where it leads.
        statuses: path -> statuses of the next responses, before the file is sent.
        etags: path -> the header ETag; "" sends none.
        headers: path -> further headers.
        ranges: whether requests for a part of a file are understood.
        lengths: whether Content-Length is sent.
        requests: (path, header Range or "") in their order.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    address: str = ""
    drops: dict[str, list[int]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    ranges: bool = True
    lengths: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    facts: FileServer

    def do_HEAD(self) -> None:
        content = self.facts.files.get(self.path, b"")
        headers = self.facts.headers.get(self.path, {}) | {"Content-Length": str(len(content))}
        headers["ETag"] = self.facts.etags.get(self.path, '"first"')
        self._head(200 if content else 404, headers)

    def do_GET(self) -> None:
        facts, path = self.facts, self.path.partition("?")[0]
        asked = self.headers.get("Range", "")
        facts.requests.append((path, asked))
        if facts.statuses.get(path):
            return self._head(facts.statuses[path].pop(0), {"Content-Length": "0"})
        if path in facts.redirects:
            headers = {"Location": facts.redirects[path], "Content-Length": "0"}
            return self._head(302, headers)
        if path not in facts.files:
            return self._head(404, {"Content-Length": "0"})
        content, etag = facts.files[path], facts.etags.get(path, '"first"')
        headers = {"ETag": etag} if etag else {}
        headers |= facts.headers.get(path, {})
        start, status = 0, 200
        if asked and facts.ranges and self.headers.get("If-Range", etag) == etag:
            start, status = int(asked.removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(content):
                headers["Content-Range"] = f"bytes */{len(content)}"
                return self._head(416, headers | {"Content-Length": "0"})
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if facts.lengths:
            headers["Content-Length"] = str(len(content) - start)
        self._head(status, headers)
        end = len(content)
        if facts.drops.get(path):
            end = min(end, start + facts.drops[path].pop(0))
        self.wfile.write(content[start:end])
        self.close_connection = True

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the output of tests free of requests."""


@contextmanager
def serving() -> Iterator[FileServer]:
    """Serve files until the block ends."""
    facts = FileServer()
    handler = type("Handler", (_Handler,), {"facts": facts})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    facts.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield facts
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
