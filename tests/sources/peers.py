"""Peers on this machine that do not behave, as proxies or sites: one socket, one way to fail."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Act = Callable[[socket.socket, threading.Event], None]
TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"


def asked(talk: socket.socket) -> bytes:
    """Return the head of a request."""
    head = b""
    while b"\r\n\r\n" not in head and (more := talk.recv(4096)):
        head += more
    return head


def silent(talk: socket.socket, over: threading.Event) -> None:
    """Accept, and never answer."""
    over.wait(60)


def trickle(data: bytes, seconds: float = 0.02) -> Act:
    """Answer *data*, and then dots for ever, a byte at a time."""

    def act(talk: socket.socket, over: threading.Event) -> None:
        asked(talk)
        for byte in data:
            talk.sendall(bytes([byte]))
        while not over.wait(seconds):
            talk.sendall(b".")

    return act


def cut(talk: socket.socket, over: threading.Event) -> None:
    """Hang up at once."""
    asked(talk)


def answer(data: bytes) -> Act:
    """Answer *data*, and let the other end hang up, so that all of it arrives."""

    def act(talk: socket.socket, over: threading.Event) -> None:
        asked(talk)
        talk.sendall(data)
        talk.shutdown(socket.SHUT_WR)
        while talk.recv(4096):
            pass

    return act


def secured(context: ssl.SSLContext) -> Act:
    """Be a tunnel to a site with the certificate of *context*."""

    def act(talk: socket.socket, over: threading.Event) -> None:
        asked(talk)
        talk.sendall(TUNNEL)
        context.wrap_socket(talk, server_side=True)

    return act


@contextmanager
def peer(act: Act) -> Iterator[str]:
    """Run a peer that does *act* with everyone; yield its host and port."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(talk: socket.socket) -> None:
            with talk, suppress(OSError):
                act(talk, over)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    talk, _ = server.accept()
                    threading.Thread(target=serve, args=(talk,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)


def closed_port() -> str:
    """Return a host and port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"
