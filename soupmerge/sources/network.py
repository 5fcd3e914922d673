"""What sites may be asked: nothing if offline; and how long they may take, whoever asks.

Every connection has a limit for being made, for silence, and for the whole: from the first byte of
an answer on, bytes must come at a least rate, so that a slow download goes on and a trickle ends.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from soupmerge.errors import NetworkError

T = TypeVar("T")

_OFFLINE: ContextVar[bool] = ContextVar("offline", default=False)
VARIABLES = ("SOUPMERGE_OFFLINE", "HF_HUB_OFFLINE")
"""Of the environment; 1, on, yes or true say that no site may be asked."""

CONNECT = 10.0
"""Seconds in which a connection must be made."""
SILENCE = 10.0
"""Seconds without a byte after which an answer is given up."""
WORK = 120.0
"""The same for what a site has to work for, such as a commit."""
SLOWEST, WINDOW = 1024, 30.0
"""Bytes a second that must come, on average over so many seconds of waiting."""


@contextlib.contextmanager
def offline(wanted: bool = True) -> Iterator[None]:
    """Ask no site while the block runs: what is not in a cache is an error at once."""
    before = _OFFLINE.set(wanted or _OFFLINE.get())
    try:
        yield
    finally:
        _OFFLINE.reset(before)


def is_offline() -> bool:
    """Return whether no site may be asked."""
    said = (os.environ.get(name, "").upper() for name in VARIABLES)
    return _OFFLINE.get() or any(word in ("1", "ON", "YES", "TRUE") for word in said)


def require_online(where: object, fix: str) -> None:
    """Refuse to ask a site if that is not wanted.

    Raises:
        NetworkError: it is not.
    """
    if is_offline():
        said = f"--offline, {' or '.join(VARIABLES)}"
        raise NetworkError(f"is not here, and no site may be asked ({said})", where=where, fix=fix)


class Pace:
    """Times the reading of one answer, and gives up a site that only trickles.

    Time counts from the first byte on, and only while it is waited for.
    """

    def __init__(self, where: object, fix: str) -> None:
        self.where, self.fix = where, fix
        self.restart()

    def restart(self) -> None:
        """Begin with another answer."""
        self.begun, self.came, self.waited = False, 0, 0.0

    def timed(self, read: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return what *read* gives: bytes, or how many there are.

        Raises:
            NetworkError: they come too slowly.
        """
        start = time.monotonic()
        found: Any = read(*args, **kwargs)
        if self.begun:
            self.waited += time.monotonic() - start
            self.came += found if isinstance(found, int) else len(found or b"")
        self.begun = True
        if self.waited >= WINDOW:
            if self.came < SLOWEST * self.waited:
                what = f"sends {self.came:,} bytes in {self.waited:.0f} seconds, which is too slow"
                raise NetworkError(what, where=self.where, fix=self.fix)
            self.came, self.waited = 0, 0.0
        return found  # type: ignore[no-any-return]


def cause(error: BaseException, address: str) -> str:
    """Return in words why *error* kept *address* from being reached; no secret can be in it."""
    by = _proxy_of(address)
    through = f" through the proxy {by}" if by else ""
    for link in _chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted{through} ({link.verify_message})"
        if isinstance(link, ssl.SSLError):
            return f"no secure connection can be made{through} ({link.reason or 'TLS'})"
        if isinstance(link, socket.gaierror):
            host = by or urlsplit(address).hostname
            dumb = link.errno == socket.EAI_AGAIN
            return f"no name server answers for {host}" if dumb else f"there is no host {host}"
        if isinstance(link, ConnectionRefusedError):
            return f"the connection is refused{through}"
        if isinstance(link, TimeoutError):
            return f"it stays silent{through}"
        if isinstance(link, (ConnectionError, http.client.HTTPException)):
            return f"the connection is cut{through}"
        if isinstance(link, OSError) and link.errno:
            return f"{os.strerror(link.errno)}{through}"
        if by and (status := REFUSED.search(str(link))):
            return f"the proxy {by} refuses (status {status[1]})"
    return f"what comes is no answer{through} ({type(error).__name__})"


REFUSED = re.compile(r"^(?:Tunnel connection failed: )?([1-5]\d\d)\b")
"""What clients say of a proxy that does not make a connection; they raise no error of its own."""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield *error* and what led to it."""
    while error is not None:
        yield error
        inner = getattr(error, "reason", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__


def _proxy_of(address: str) -> str:
    """Return the host of the proxy that *address* is asked through, without name and password."""
    parts = urlsplit(address)
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(parts.hostname or ""):
        return ""
    return re.sub(r"^(\w+://)?([^/@]*@)?", "", proxy).rstrip("/")
