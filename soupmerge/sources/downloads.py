"""Downloads of files: they resume, and an answer is judged by its bytes, not by its status alone.

Only https is allowed (http only from and to this machine), with at most five redirects. An answer
that is not of the expected kind is not kept. Proxies are taken from the environment.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from soupmerge.errors import NetworkError, UnsafeError, printable
from soupmerge.numbers import count
from soupmerge.sources import connections
from soupmerge.storage.partial import Partial
from soupmerge.storage.reading import StableFile
from soupmerge.weights.kinds import seems

if TYPE_CHECKING:
    from soupmerge.types import Progress

TRIES = 5
"""Requests for one file; each goes on where the answer before it broke off."""

MOST_BYTES = 1 << 34
"""Size of the largest file that is downloaded."""
CHUNK = 1 << 18
ENOUGH = 512
"""Bytes that show of which kind an answer is."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")

REASONS = {
    401: "asks for a login",
    403: "refuses: the file is not public, or no longer",
    404: "has no such file",
    410: "no longer has this file",
    429: "refuses: it has received too many requests",
}


class _CutError(NetworkError):
    """The answer broke off; the received part is kept, and the next request goes on from there."""


class Kind(NamedTuple):
    """A kind of file: its *name*, and whether a file may begin with the bytes given to *begins*.

    A web page with an error message is of no kind.
    """

    name: str
    begins: Callable[[bytes], object]


WEIGHTS = Kind("a file of weights", seems)
GZIP = Kind("an archive", lambda head: head.startswith(b"\x1f\x8b"))


def download(
    address: str,
    target: Path,
    *,
    sha256: str = "",
    wanted: Kind = WEIGHTS,
    progress: Progress | None = None,
) -> str:
    """Download the file at *address* to *target*, and return its sha256.

    Bytes received in an earlier run are not requested again if the site says that they are still
    part of the same file. *target* appears when it is complete.

    Args:
        address: an ``https:`` address.
        target: does not exist yet; its folder is created.
        sha256: beginning of the expected hash.
        wanted: the expected kind of file.
        progress: callback for progress in megabytes, see `types.Progress`.

    Raises:
        NetworkError: the site cannot be reached, is too slow, or does not send the whole file.
        UnsafeError: the hash differs; nothing is kept.
        OutputError: *target* cannot be written.
    """
    connections.require_online(target, "put the file there")
    _require_https(address, address)
    part = Partial(target)
    with part.locked():
        if target.exists():  # another process was first
            return StableFile.seen(target).sha256()
        _fetch_all(address, part, wanted, progress)
        digest = part.sha256()
        if not digest.startswith(sha256):
            part.discard()
            what = f"has changed: sha256 {digest}, expected {sha256}; it was not kept"
            raise UnsafeError(what, where=address, fix=f"if that is intended, {_by_hand(part)}")
        part.finish()
    return digest


def _fetch_all(address: str, part: Partial, wanted: Kind, progress: Progress | None) -> None:
    for tries_left in reversed(range(TRIES)):
        try:
            _fetch(address, part, wanted, progress)
            break
        except _CutError:
            if not tries_left:
                raise


def _by_hand(part: Partial) -> str:
    return f"open it in a browser and put the file at {part.target}"


def _fetch(address: str, part: Partial, wanted: Kind, progress: Progress | None) -> None:
    """Fetch what is missing of *part*, or all of it."""
    received, tag = part.received(address)
    with _request(address, received, tag, part) as answer:
        if answer.status != 206:
            received = 0
        elif not _continues(answer, received, tag):
            part.discard()
            raise _CutError("continues with another file", where=address, fix="run again")
        length = count(answer.headers.get("Content-Length", ""))
        total = None if length is None else received + length
        if total is not None and total > MOST_BYTES:
            raise NetworkError(f"has {total:,} bytes, too many", where=address, fix=_by_hand(part))
        chunks = _chunks(answer, address)
        head = b""
        if not received:
            while len(head) < ENOUGH and (chunk := next(chunks, b"")):
                head += chunk
            _require_kind(wanted, head, address, part)
            part.begin(address, _tag_of(answer))
        with part.appending() as append:
            received += append(head)
            for chunk in chunks:
                received += append(chunk)
                if progress is not None:
                    progress("megabytes", received >> 20, (total or received) >> 20)
                if received > MOST_BYTES:
                    raise NetworkError("does not end", where=address, fix=_by_hand(part))
    if total is not None and received < total:
        what = f"ended after {received:,} of {total:,} bytes"
        raise _CutError(what, where=address, fix="run again")


@contextlib.contextmanager
def _request(address: str, received: int, tag: str, part: Partial) -> Iterator[Any]:
    """Request the bytes from *received* on of the version *tag*; the site may send all of them."""
    pace = connections.Pace(address, f"run again to continue, or {_by_hand(part)}")
    headers = {"User-Agent": "soupmerge", "Accept-Encoding": "identity"}
    if received:
        headers |= {"Range": f"bytes={received}-", "If-Range": tag}
    later = f"try again later, or {_by_hand(part)}"
    try:
        opener = build_opener(_Redirects(address), _Paced(pace))
        answer = opener.open(Request(address, headers=headers), timeout=connections.SILENCE)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left to request: the file has changed
            part.discard()
            raise _CutError("has become shorter", where=address, fix="run again") from error
        reason = REASONS.get(error.code, f"answers {error.code} {_first_line(error.reason)}")
        if 300 <= error.code < 400:
            reason = "redirects endlessly, or to an address that is not https"
        kind = _CutError if error.code >= 500 else NetworkError
        raise kind(reason, where=address, fix=later) from error
    except (URLError, OSError, http.client.HTTPException) as error:
        what = f"cannot be reached: {connections.cause(error, address)}"
        raise NetworkError(what, where=address, fix=later) from error
    with answer:
        yield answer


class _Redirects(HTTPRedirectHandler):
    """Follows few redirects, and none to an unencrypted address."""

    max_redirections = 5
    max_repeats = 5

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """Return the request for *newurl* if it is allowed."""
        _require_https(newurl, self.origin)
        fp.close()  # the body is not needed, and may be endless
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_https(address: str, origin: str) -> None:
    """Refuse an *address* that is not https, unless it and *origin* are on this machine."""
    parts, first = urlsplit(address), urlsplit(origin)
    local = all(p.scheme == "http" and p.hostname in LOOPBACK for p in (parts, first))
    if parts.scheme != "https" and not local:
        what = f"leads to {printable(address)}, which is not https"
        raise NetworkError(what, where=origin, fix="take the file from elsewhere")


def _continues(answer: Any, received: int, tag: str) -> bool:
    """Return whether a partial *answer* begins after *received* bytes of the version *tag*."""
    start = re.match(r"bytes ([0-9]{1,18})-", answer.headers.get("Content-Range", ""))
    same = _tag_of(answer) in ("", tag)
    return same and start is not None and int(start[1]) == received


def _tag_of(answer: Any) -> str:
    """Return what identifies this version of the file, or nothing; weak tags do not."""
    tag: str = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    return "" if tag.startswith("W/") else tag


def _chunks(answer: Any, address: str) -> Iterator[bytes]:
    try:
        while chunk := answer.read1(CHUNK):  # what is there, so that a stall loses little
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        what = f"broke off: {connections.cause(error, address)}"
        raise _CutError(what, where=address, fix="run again to continue") from error


def _require_kind(wanted: Kind, head: bytes, address: str, part: Partial) -> None:
    """Refuse an answer of another kind, such as a web page with an error message."""
    if wanted.begins(head):
        return
    page = re.search(rb"<title[^>]*>([^<]{1,200})", head, re.IGNORECASE)
    title = f" ({printable(page[1].decode('utf-8', 'replace').strip())!r})" if page else ""
    kinds = {b"<": f"a web page{title}", b"{": "a JSON document"}
    sent = kinds.get(head.lstrip()[:1], f"a file that begins with {head[:16]!r}")
    raise NetworkError(f"sent {sent}, not {wanted.name}", where=address, fix=_by_hand(part))


class _Paced(HTTPSHandler, HTTPHandler):
    """Opens connections whose answers, and those of proxies, are read at a pace."""

    def __init__(self, pace: connections.Pace) -> None:
        super().__init__()
        self.pace = pace

    def http_open(self, req: Request) -> Any:
        """Send *req*, and return the answer."""
        return self.do_open(_timed_connection(http.client.HTTPConnection, self.pace), req)

    def https_open(self, req: Request) -> Any:
        """Send *req* over TLS, and return the answer."""
        return self.do_open(_timed_connection(http.client.HTTPSConnection, self.pace), req)


def _timed_connection(kind: Any, pace: connections.Pace) -> Any:
    """Return a factory of connections of class *kind* whose answers are read at *pace*."""

    def connect(*args: Any, **kwargs: Any) -> Any:
        connection = kind(*args, **kwargs)
        connection.response_class = functools.partial(_Answer, pace)
        return connection

    return connect


class _Answer(http.client.HTTPResponse):
    """An answer whose bytes, headers included, are timed."""

    def __init__(self, pace: connections.Pace, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        pace.restart()
        raw: Any = self.fp.detach()
        self.fp = io.BufferedReader(_TimedSocket(raw, pace))


class _TimedSocket(io.RawIOBase):
    """The bytes of a socket, timed by *pace*."""

    def __init__(self, raw: io.RawIOBase, pace: connections.Pace) -> None:
        self.raw, self.pace = raw, pace

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read available bytes into *buffer*, and return their number."""
        return self.pace.timed(self.raw.readinto, buffer)

    def close(self) -> None:
        """Close the socket."""
        self.raw.close()
        super().close()


def _first_line(error: object) -> str:
    return printable(str(error).partition("\n")[0])
