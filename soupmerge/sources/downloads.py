"""Files of weights from addresses: one client, which resumes, and believes no answer by its status.

https alone, but for the machine itself; at most five redirects; what is no file of weights is not
kept. Proxies are those of the environment.
"""

from __future__ import annotations

import contextlib
import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from soupmerge.errors import NetworkError, UnsafeError, printable
from soupmerge.numbers import count
from soupmerge.sources import network
from soupmerge.storage.partial import Partial
from soupmerge.storage.reading import Steady
from soupmerge.weights.kinds import seems

if TYPE_CHECKING:
    from soupmerge.types import Progress

TIMEOUT = 10.0
TRIES = 5
"""How often an answer that breaks off is taken up again before that is an error."""

MOST_BYTES = 1 << 34
CHUNK = 1 << 18
ENOUGH = 512
"""Bytes to see whether an answer is a file of weights."""

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


def download(
    address: str,
    target: Path,
    *,
    sha256: str = "",
    timeout: float = TIMEOUT,
    progress: Progress | None = None,
) -> str:
    """Put the file of weights at *address* at *target*, and return its sha256.

    What came of it in an earlier run is not fetched again, if the site says that it is still part
    of the same file. *target* appears when it is whole.

    Args:
        address: an ``https:`` address.
        target: is not there yet; its folder is made.
        sha256: how its hash must begin.
        timeout: seconds without an answer.
        progress: is told of megabytes.

    Raises:
        NetworkError: the site cannot be reached, or gives no file of weights, or not all of it.
        UnsafeError: the hash is another; nothing is kept.
        OutputError: *target* cannot be written.
    """
    if network.is_offline():
        fix = f"unset {' and '.join(network.VARIABLES)}, or put the file there"
        raise NetworkError("is not here, and this is offline", where=target, fix=fix)
    _require_lawful(address, address)
    part = Partial(target)
    with part.held():
        if target.exists():  # another process was here first
            return Steady.seen(target).sha256()
        _fetch_all(address, part, timeout, progress)
        found = part.sha256()
        if not found.startswith(sha256):
            part.discard()
            what = f"is not the file it was: sha256 {found}, expected {sha256}; it was not kept"
            raise UnsafeError(what, where=address, fix=f"if the change is meant, {_by_hand(part)}")
        part.finish()
    return found


def _fetch_all(address: str, part: Partial, timeout: float, progress: Progress | None) -> None:
    for left in reversed(range(TRIES)):
        try:
            _fetch(address, part, timeout, progress)
            break
        except _CutError:
            if not left:
                raise


def _by_hand(part: Partial) -> str:
    return f"open it in a browser and put the file at {part.target}"


def _fetch(address: str, part: Partial, timeout: float, progress: Progress | None) -> None:
    """Fetch what is missing of *part*, or all of it."""
    come, tag = part.come(address)
    with _answer(address, come, tag, timeout, part) as answer:
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
            _require_weights(head, address, part)
            part.begin(address, _tag_of(answer))
        with part.growing() as append:
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
def _answer(address: str, come: int, tag: str, timeout: float, part: Partial) -> Iterator[Any]:
    """Ask for what is missing."""
    headers = {"User-Agent": "soupmerge", "Accept-Encoding": "identity"}
    if come:
        headers |= {"Range": f"bytes={come}-", "If-Range": tag}
    try:
        answer = build_opener(_Redirects(address)).open(
            Request(address, headers=headers), timeout=timeout
        )
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
        reason = _first_line(getattr(error, "reason", None) or error)
        what = f"cannot be reached: {reason or type(error).__name__}"
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
        what = f"broke off: {printable(error) or type(error).__name__}"
        raise _CutError(what, where=address, fix="run again to go on from there") from error


def _require_weights(head: bytes, address: str, part: Partial) -> None:
    """Refuse an answer that is no file of weights, such as a page that says so."""
    if seems(head):
        return
    page = re.search(rb"<title[^>]*>([^<]{1,200})", head, re.IGNORECASE)
    title = f" ({printable(page[1].decode('utf-8', 'replace').strip())!r})" if page else ""
    kind = f"a web page{title}" if head.lstrip()[:1] == b"<" else f"what begins with {head[:16]!r}"
    raise NetworkError(f"gave {kind}, not a file of weights", where=address, fix=_by_hand(part))


def _first_line(error: object) -> str:
    return printable(str(error).partition("\n")[0])
