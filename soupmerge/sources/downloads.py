"""Files from addresses: one client, which resumes, and believes no answer by its status.

https alone, but for the machine itself; at most five redirects; what is no file of the kind that is
wanted is not kept. Proxies are those of the environment.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from soupmerge.errors import NetworkError, UnsafeError, printable
from soupmerge.numbers import count
from soupmerge.sources import network
from soupmerge.storage.partial import Partial
from soupmerge.storage.reading import StableFile
from soupmerge.weights.kinds import seems

if TYPE_CHECKING:
    from soupmerge.types import Progress

TRIES = 5
"""How often an answer that breaks off is taken up again before that is an error."""

MOST_BYTES = 1 << 34
CHUNK = 1 << 18
ENOUGH = 512
"""Bytes to see whether an answer is a file of the kind that is wanted."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")

REASONS = {
    401: "asks for a login",
    403: "refuses: the file is not public, or not any more",
    404: "has no such file",
    410: "has no such file any more",
    429: "has had too many requests",
}


class _CutError(NetworkError):
    """The answer broke off; what has come of it is kept, and can be taken up."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: its *name*, and whether one may begin with the bytes that *begins* is given.

    A web page that says what is wrong is no file of any kind.
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
    """Put the file at *address* at *target*, and return its sha256.

    What came of it in an earlier run is not fetched again, if the site says that it is still part
    of the same file. *target* appears when it is whole.

    Args:
        address: an ``https:`` address.
        target: is not there yet; its folder is made.
        sha256: how its hash must begin.
        wanted: the kind of file; nothing else is kept.
        progress: is told of megabytes.

    Raises:
        NetworkError: the site cannot be reached, is too slow, or gives no such file, or not all of
            it.
        UnsafeError: the hash is another; nothing is kept.
        OutputError: *target* cannot be written.
    """
    network.require_online(target, "put the file there")
    _require_lawful(address, address)
    part = Partial(target)
    with part.locked():
        if target.exists():  # another process was here first
            return StableFile.seen(target).sha256()
        _fetch_all(address, part, wanted, progress)
        found = part.sha256()
        if not found.startswith(sha256):
            part.discard()
            what = f"is not the file it was: sha256 {found}, expected {sha256}; it was not kept"
            raise UnsafeError(what, where=address, fix=f"if the change is meant, {_by_hand(part)}")
        part.finish()
    return found


def _fetch_all(address: str, part: Partial, wanted: Kind, progress: Progress | None) -> None:
    for left in reversed(range(TRIES)):
        try:
            _fetch(address, part, wanted, progress)
            break
        except _CutError:
            if not left:
                raise


def _by_hand(part: Partial) -> str:
    return f"open it in a browser and put the file at {part.target}"


def _fetch(address: str, part: Partial, wanted: Kind, progress: Progress | None) -> None:
    """Fetch what is missing of *part*, or all of it."""
    come, tag = part.received(address)
    with _answer(address, come, tag, part) as answer:
        if answer.status != 206:
            come = 0
        elif not _continues(answer, come, tag):
            part.discard()
            raise _CutError("goes on with another file", where=address, fix="run again")
        length = count(answer.headers.get("Content-Length", ""))
        total = None if length is None else come + length
        if (total or 0) > MOST_BYTES:
            raise NetworkError(f"has {total:,} bytes, too many", where=address, fix=_by_hand(part))
        chunks = _chunks(answer, address)
        head = b""
        if not come:
            while len(head) < ENOUGH and (chunk := next(chunks, b"")):
                head += chunk
            _require_kind(wanted, head, address, part)
            part.begin(address, _tag_of(answer))
        with part.appending() as append:
            come += append(head)
            for chunk in chunks:
                come += append(chunk)
                if progress is not None:
                    progress("megabytes", come >> 20, (total or come) >> 20)
                if come > MOST_BYTES:
                    raise NetworkError("does not end", where=address, fix=_by_hand(part))
    if total is not None and come < total:
        raise _CutError(f"ended after {come:,} of {total:,} bytes", where=address, fix="run again")


@contextlib.contextmanager
def _answer(address: str, come: int, tag: str, part: Partial) -> Iterator[Any]:
    """Ask for what is missing."""
    pace = network.Pace(address, f"run again to go on from there, or {_by_hand(part)}")
    headers = {"User-Agent": "soupmerge", "Accept-Encoding": "identity"}
    if come:
        headers |= {"Range": f"bytes={come}-", "If-Range": tag}
    try:
        opener = build_opener(_Redirects(address), _Paced(pace), _PacedSecure(pace))
        answer = opener.open(Request(address, headers=headers), timeout=network.SILENCE)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left to ask for: the file is another one now
            part.discard()
            raise _CutError("has not so many bytes", where=address, fix="run again") from error
        reason = REASONS.get(error.code, f"answers {error.code} {_first_line(error.reason)}")
        if 300 <= error.code < 400:
            reason = "redirects without end, or to what is no https address"
        kind = _CutError if error.code >= 500 else NetworkError
        raise kind(reason, where=address, fix=f"try again later, or {_by_hand(part)}") from error
    except (URLError, OSError, http.client.HTTPException) as error:
        what = f"cannot be reached: {network.cause(error, address)}"
        raise NetworkError(
            what, where=address, fix=f"try again later, or {_by_hand(part)}"
        ) from error
    with answer:
        yield answer


class _Redirects(HTTPRedirectHandler):
    """Follows few, and none to where a bystander could read along."""

    max_redirections = 5
    max_repeats = 5

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """Return the request for *newurl*, if it may be asked."""
        _require_lawful(newurl, self.origin)
        fp.close()  # its body says nothing, and need have no end
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_lawful(address: str, origin: str) -> None:
    """Refuse addresses that are not https, but for the machine itself asking itself."""
    parts, first = urlsplit(address), urlsplit(origin)
    home = all(p.scheme == "http" and p.hostname in LOOPBACK for p in (parts, first))
    if parts.scheme != "https" and not home:
        what = f"leads to {printable(address)}, which is not https"
        raise NetworkError(what, where=origin, fix="take the file from elsewhere")


def _continues(answer: Any, come: int, tag: str) -> bool:
    """Return whether a partial *answer* is what comes after the first *come* bytes of *tag*."""
    found = re.match(r"bytes ([0-9]{1,18})-", answer.headers.get("Content-Range", ""))
    same = _tag_of(answer) in ("", tag)
    return same and found is not None and int(found[1]) == come


def _tag_of(answer: Any) -> str:
    """Return what tells this version of the file from others; weak tags do not."""
    tag: str = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    return "" if tag.startswith("W/") else tag


def _chunks(answer: Any, address: str) -> Iterator[bytes]:
    try:
        while chunk := answer.read1(CHUNK):  # what is there: what a stall cuts off stays small
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        what = f"broke off: {network.cause(error, address)}"
        raise _CutError(what, where=address, fix="run again to go on from there") from error


def _require_kind(wanted: Kind, head: bytes, address: str, part: Partial) -> None:
    """Refuse an answer that is of another kind, such as a page that says what is wrong."""
    if wanted.begins(head):
        return
    page = re.search(rb"<title[^>]*>([^<]{1,200})", head, re.IGNORECASE)
    title = f" ({printable(page[1].decode('utf-8', 'replace').strip())!r})" if page else ""
    kind = f"a web page{title}" if head.lstrip()[:1] == b"<" else f"what begins with {head[:16]!r}"
    raise NetworkError(f"gave {kind}, not {wanted.name}", where=address, fix=_by_hand(part))


class _Paced(HTTPHandler):
    """Opens connections whose answers are read at a pace; proxies' answers, too."""

    def __init__(self, pace: network.Pace) -> None:
        super().__init__()
        self.pace = pace

    def http_open(self, req: Request) -> Any:
        """Ask for *req*."""
        return self.do_open(_connecting(http.client.HTTPConnection, self.pace), req)


class _PacedSecure(HTTPSHandler):
    """The same for https."""

    def __init__(self, pace: network.Pace) -> None:
        super().__init__()
        self.pace = pace

    def https_open(self, req: Request) -> Any:
        """Ask for *req*."""
        return self.do_open(_connecting(http.client.HTTPSConnection, self.pace), req)


def _connecting(kind: Any, pace: network.Pace) -> Any:
    """Return what makes connections of *kind* with answers at *pace*."""

    def connection(*args: Any, **kwargs: Any) -> Any:
        made = kind(*args, **kwargs)
        made.response_class = functools.partial(_Answer, pace)
        return made

    return connection


class _Answer(http.client.HTTPResponse):
    """An answer of which every byte is waited for at a pace, headers included."""

    def __init__(self, pace: network.Pace, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        pace.restart()
        raw: Any = self.fp.detach()
        self.fp = io.BufferedReader(_Timed(raw, pace))


class _Timed(io.RawIOBase):
    """The bytes of a socket, at a pace."""

    def __init__(self, raw: io.RawIOBase, pace: network.Pace) -> None:
        self.raw, self.pace = raw, pace

    def readable(self) -> bool:
        """Return whether it can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what is there into *buffer*, and return how much it was."""
        return self.pace.timed(self.raw.readinto, buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self.raw.close()
        super().close()


def _first_line(error: object) -> str:
    return printable(str(error).partition("\n")[0])
