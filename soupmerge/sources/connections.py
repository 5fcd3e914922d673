"""Whether sites may be asked (not if offline), and how long they may take, for all clients.

There is a time limit for connecting and one for silence, and from the first byte of an answer on,
bytes must come at a minimum rate: a slow download goes on, a trickle ends.
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
"""Environment variables that forbid asking any site when set to 1, on, yes or true."""

CONNECT = 10.0
"""Seconds within which a connection must be made."""
SILENCE = 10.0
"""Seconds without a byte after which to give up on an answer."""
WORK = 120.0
"""The same for requests that a site has to work for, such as a commit."""
SLOWEST, WINDOW = 1024, 30.0
"""Bytes per second that must come, on average over so many seconds of waiting."""


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
    values = (os.environ.get(name, "").upper() for name in VARIABLES)
    return _OFFLINE.get() or any(value in ("1", "ON", "YES", "TRUE") for value in values)


def require_online(where: object, fix: str) -> None:
    """Refuse to ask a site when offline.

    Raises:
        NetworkError: offline; *where* is what is missing.
    """
    if is_offline():
        switches = f"--offline, {' or '.join(VARIABLES)}"
        what = f"is missing, and no site may be asked ({switches})"
        raise NetworkError(what, where=where, fix=fix)


class Pace:
    """Times the reading of one answer, and refuses one that only trickles.

    Time counts from the first byte on, and only while waiting for bytes.
    """

    def __init__(self, where: object, fix: str) -> None:
        self.where, self.fix = where, fix
        self.restart()

    def restart(self) -> None:
        """Begin with another answer."""
        self.begun, self.received, self.waited = False, 0, 0.0

    def timed(self, read: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return the result of *read*: bytes, or their number.

        Raises:
            NetworkError: they come too slowly.
        """
        start = time.monotonic()
        result: Any = read(*args, **kwargs)
        if self.begun:
            self.waited += time.monotonic() - start
            self.received += result if isinstance(result, int) else len(result or b"")
        self.begun = True
        if self.waited >= WINDOW:
            if self.received < SLOWEST * self.waited:
                what = f"is too slow: {self.received:,} bytes came in {self.waited:.0f} seconds"
                raise NetworkError(what, where=self.where, fix=self.fix)
            self.received, self.waited = 0, 0.0
        return result  # type: ignore[no-any-return]


def cause(error: BaseException, address: str) -> str:
    """Return in words why *error* kept *address* from being reached, without any secret."""
    proxy = _proxy_of(address)
    through = f" through the proxy {proxy}" if proxy else ""
    for link in _chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted{through} ({link.verify_message})"
        if isinstance(link, ssl.SSLError):
            return f"no secure connection can be made{through} ({link.reason or 'TLS'})"
        if isinstance(link, socket.gaierror):
            host = proxy or urlsplit(address).hostname
            silent = link.errno == socket.EAI_AGAIN
            return f"no name server answers for {host}" if silent else f"there is no host {host}"
        if isinstance(link, ConnectionRefusedError):
            return f"the connection is refused{through}"
        if isinstance(link, TimeoutError):
            return f"it does not answer in time{through}"
        if isinstance(link, (ConnectionError, http.client.HTTPException)):
            return f"the connection was cut{through}"
        if isinstance(link, OSError) and link.errno:
            return f"{os.strerror(link.errno)}{through}"
        if proxy and (status := REFUSED.search(str(link))):
            return f"the proxy {proxy} refuses (status {status[1]})"
    return f"the answer cannot be understood{through} ({type(error).__name__})"


REFUSED = re.compile(r"^(?:Tunnel connection failed: )?([1-5]\d\d)\b")
"""Messages of clients when a proxy refuses a connection; there is no exception class for it."""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield *error* and the errors that led to it."""
    while error is not None:
        yield error
        inner = getattr(error, "reason", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__


def _proxy_of(address: str) -> str:
    """Return the host of the proxy for *address*, without user name and password; or nothing."""
    parts = urlsplit(address)
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(parts.hostname or ""):
        return ""
    return re.sub(r"^(\w+://)?([^/@]*@)?", "", proxy).rstrip("/")
