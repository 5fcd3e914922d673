"""A server of files on this machine, and the ways in which it serves them or does not."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = b"PK\x03\x04" + bytes(range(256)) * 4000
DIGEST = hashlib.sha256(BODY).hexdigest()
QUOTA = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"


@dataclass
class Server:
    """Answers by *acts*, one a request, the last for ever; notes what was asked."""

    address: str = ""
    acts: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append({"path": handler.path, **handler.headers})
        act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        act(handler)


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server on a port of this machine."""
    found = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802
            self.close_connection = True
            found.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    found.address = f"http://127.0.0.1:{made.server_port}/file"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes = b"",
    declared: int | None = None,
    **headers: str,
) -> None:
    handler.send_response(status)
    length = len(body) if declared is None else declared
    for name, value in {"Content_Length": str(length), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, BODY, ETag='"one"')


def half(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, BODY[: len(BODY) // 2], declared=len(BODY), ETag='"one"')


def rest(handler: BaseHTTPRequestHandler) -> None:
    """Serve ranges as it should be: the rest of the same file, or all of another."""
    wanted, tag = handler.headers.get("Range"), handler.headers.get("If-Range")
    if wanted is None or tag != '"one"':
        return whole(handler)
    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    span = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
    return send(handler, 206, BODY[start:], ETag='"one"', Content_Range=span)


def stall(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, BODY[:1000], declared=len(BODY), ETag='"one"')
    handler.wfile.flush()
    threading.Event().wait(1.5)


def redirect(place: str, times: int = 1) -> list[Callable[[BaseHTTPRequestHandler], None]]:
    return [lambda handler: send(handler, 302, Location=place)] * times
