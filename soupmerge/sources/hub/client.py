"""All requests to the Hub: made by its own client, under watch, since answers are not trusted.

On its own, the client follows redirects to anywhere, retries as long as bytes come, waits without
a limit in places, and takes names of files from headers. The watch limits its connections, and
every failure becomes one of soupmerge's errors, which says what to do and cannot contain a token.
The second client, for Xet, makes its own connections, which cannot be watched: it is turned off.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soupmerge.errors import InputError, NetworkError, OutputError, SoupmergeError, UnsafeError
from soupmerge.sources import connections
from soupmerge.sources.hub.cache import Listing, StoredFile
from soupmerge.sources.hub.refs import COMMIT, HubRef, kind_of

if TYPE_CHECKING:
    from soupmerge.types import Progress

HOPS = 5
"""Redirects that are followed in a row."""
ATTEMPTS = 20
"""Answers with a body that one file may take; the client itself would retry without end."""
CHECK, LATER = "check HF_ENDPOINT", "try again later"


def listing(ref: HubRef) -> Listing:
    """Return the commit of *ref* at the Hub, with its files and their hashes.

    Raises:
        NetworkError: the Hub cannot be reached, refuses, or its answer is wrong.
        UnsafeError: its answer is about another commit.
    """
    with watched(ref):
        from huggingface_hub import HfApi, constants

        kind, name = kind_of(ref.repo)
        info: Any = HfApi(endpoint=constants.ENDPOINT, library_name="soupmerge").repo_info(
            name, repo_type=kind, revision=ref.revision, files_metadata=True, timeout=seconds()
        )
        files = {sibling.rfilename: _stored(sibling) for sibling in info.siblings or ()}
        licence = getattr(info.card_data, "license", None)
    if not isinstance(info.sha, str) or not COMMIT.fullmatch(info.sha):
        raise NetworkError("the Hub names no commit", where=ref, fix=CHECK)
    if ref.pinned and info.sha != ref.revision:
        what = f"the Hub answers with another commit, {info.sha}"
        raise UnsafeError(what, where=ref, fix=CHECK)
    known = {name: stored for name, stored in files.items() if stored}
    return Listing(ref.repo, info.sha, known, licence if isinstance(licence, str) else None)


def _stored(sibling: Any) -> StoredFile | None:
    size, lfs = sibling.size, sibling.lfs
    digest = lfs.sha256 if lfs else sibling.blob_id
    if not isinstance(size, int) or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", str(digest)):
        return None  # a file that cannot be checked is not taken
    return StoredFile(size, digest)


def download(listing: Listing, name: str, where: HubRef, progress: Progress | None) -> Path:
    """Download the file *name* of *listing* to the client's cache, and return its path.

    Raises:
        NetworkError: it cannot be downloaded, or is larger than announced.
        UnsafeError: a header would name a file outside the cache.
        OutputError: the cache cannot be written.
    """
    size = listing.files[name].size
    with watched(where):
        from huggingface_hub import constants, hf_hub_download

        kind, repo = kind_of(listing.repo)
        path = hf_hub_download(
            repo,
            name,
            repo_type=kind,
            revision=listing.commit,
            endpoint=constants.ENDPOINT,
            cache_dir=constants.HF_HUB_CACHE,
            library_name="soupmerge",
            etag_timeout=seconds(),
            tqdm_class=_progress_bar(name, size, where, progress),
        )
    return Path(path)


def seconds() -> float:
    """Return how many seconds to wait for an answer to begin."""
    from huggingface_hub import constants

    return min(connections.SILENCE, float(constants.HF_HUB_ETAG_TIMEOUT))


@contextlib.contextmanager
def watched(where: object) -> Iterator[None]:
    """Watch the client in the block, and turn its errors into soupmerge's.

    Raises:
        NetworkError, UnsafeError, OutputError: see `listing` and `download`.
    """
    require_online(where)
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils import _http

    # The client has a setter for its factory of connections, but no getter.
    before: Any = getattr(_http, "_GLOBAL_CLIENT_FACTORY", _http.default_client_factory)
    watch, log = _Watch(where), logging.getLogger("huggingface_hub")
    level, xet = log.level, constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = True
    set_client_factory(lambda: watch.put_on(before()))
    log.setLevel(max(level, logging.ERROR))  # it logs each retry, with addresses
    try:
        yield
    except SoupmergeError:
        raise
    except Exception as error:  # from None: its message may repeat a token
        raise explained(error, where) from None
    finally:
        log.setLevel(level)
        set_client_factory(before)
        constants.HF_HUB_DISABLE_XET = xet


@contextlib.contextmanager
def bars_on_terminals() -> Iterator[None]:
    """Let the client draw progress bars only on a terminal; it draws some of them anywhere."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled() or sys.stderr.isatty():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def require_online(where: object) -> None:
    """Refuse to ask the Hub when offline, by soupmerge's variables or the client's.

    Raises:
        NetworkError: offline.
    """
    from huggingface_hub import constants

    is_data = kind_of(getattr(where, "repo", ""))[0] == "dataset"
    fix = "read it once" if is_data else "run soupmerge pull"
    fix += " where there is a network"
    with connections.offline(constants.is_offline_mode()):
        connections.require_online(where, fix)


class _Watch:
    """Limits the time of each request, and checks each answer before the client acts on it."""

    def __init__(self, where: object) -> None:
        self.where, self.hops, self.bodies, self.conflicts = where, 0, 0, 0

    def put_on(self, client: Any) -> Any:
        hooks = client.event_hooks
        client.event_hooks = {
            "request": [*hooks.get("request", ()), self._limit],
            "response": [*hooks.get("response", ()), self],
        }
        return client

    def _limit(self, request: Any) -> None:
        """Add the time limits that *request* lacks, and time its connections."""
        limits = {
            "connect": connections.CONNECT,
            "pool": connections.CONNECT,
            "read": connections.WORK,
            "write": connections.WORK,
        }
        given = request.extensions.get("timeout") or {}
        limits |= {key: limit for key, limit in given.items() if limit is not None}
        request.extensions = {**request.extensions, "timeout": limits, "trace": self._trace}

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Time all reading from a new connection, with TLS or without."""
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        stream = info["return_value"]
        pace = connections.Pace(self.where, LATER)
        read, write = stream.read, stream.write

        def restart_and_write(*args: Any, **kwargs: Any) -> None:
            pace.restart()  # the bytes after a request belong to another answer
            write(*args, **kwargs)

        stream.read, stream.write = partial(pace.timed, read), restart_and_write

    def __call__(self, response: Any) -> None:
        if response.has_redirect_location:
            self._check_redirect(response)
        else:
            self.hops = 0
            self.bodies += response.request.method == "GET"
        if self.bodies > ATTEMPTS:
            what = f"the connection broke off {ATTEMPTS} times"
            raise NetworkError(what, where=self.where, fix=LATER)
        self.conflicts += response.status_code == 409  # after which the client may retry
        if self.conflicts > ATTEMPTS:
            what = f"the Hub reported a conflict with another operation {ATTEMPTS} times"
            raise NetworkError(what, where=self.where, fix=LATER)
        if response.request.method == "HEAD":
            self._check_names(response.headers)

    def _check_redirect(self, response: Any) -> None:
        self.hops += 1
        try:
            target = response.url.join(response.headers["location"])
        except Exception as error:  # an error of the client's library
            what = f"is redirected to an invalid address ({type(error).__name__})"
            raise NetworkError(what, where=self.where, fix=CHECK) from None
        downgraded = response.url.scheme == "https" and target.scheme != "https"
        if downgraded or target.scheme not in ("http", "https"):
            what = f"is redirected from {response.url.scheme} to {target.scheme}, which is refused"
            raise NetworkError(what, where=self.where, fix=CHECK)
        if self.hops > HOPS:
            what = f"is redirected more than {HOPS} times"
            raise NetworkError(what, where=self.where, fix=CHECK)

    def _check_names(self, headers: Any) -> None:
        # The client uses these as names of files in its cache, unchecked.
        for header in ("x-linked-etag", "etag", "x-repo-commit"):
            value = headers.get(header, "").removeprefix("W/").strip('"')
            if value and not re.fullmatch(r"[\w-]+(\.[\w-]+)*", value):
                what = f"the Hub's header {header} is not a safe file name"
                raise UnsafeError(what, where=self.where, fix=CHECK)


def _progress_bar(name: str, size: int, where: object, progress: Progress | None) -> type[Any]:
    """Return a progress bar for the client, which refuses more than the announced *size* bytes."""
    from huggingface_hub.utils.tqdm import tqdm

    class ProgressBar(tqdm):  # type: ignore[type-arg,misc,unused-ignore]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.received = int(kwargs.get("initial") or 0)
            super().__init__(*args, **{**kwargs, "disable": True} if progress else kwargs)

        def update(self, n: float | None = 1) -> Any:
            self.received += int(n or 0)
            if self.received > size:
                what = f"sends more than the {size:,} bytes that {name} should have"
                raise NetworkError(what, where=where, fix=LATER)
            if progress:
                progress(f"{name}, MB", self.received // 1_000_000, size // 1_000_000)
            return super().update(n)

    return ProgressBar


def explained(error: Exception, where: object) -> SoupmergeError:
    """Return *error* of the client as one of soupmerge's, without anything that was sent."""
    from huggingface_hub import constants, errors, get_token

    outer = (errors.LocalEntryNotFoundError, RuntimeError)  # which wrap others
    if isinstance(error, outer) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    access = "the token does not grant access" if get_token() else "no token was given"
    repo = getattr(where, "repo", where)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        fix = f"accept its terms at {_plain(constants.ENDPOINT)}/{repo}, then run hf auth login"
        return NetworkError(f"is gated, and {access}", where=where, fix=fix)
    if isinstance(error, errors.RevisionNotFoundError):
        return NetworkError("has no such revision", where=where, fix="check what follows the @")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return NetworkError("has no such file", where=where, fix="check what follows the :")
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        what = f"there is no such repository, or it is private and {access} (status {status})"
        return NetworkError(
            what, where=where, fix="check the name; for a private one: hf auth login"
        )
    if status is not None:
        fix = LATER if status in (429, 500, 502, 503, 504) else CHECK
        return NetworkError(f"the Hub answers with status {status}", where=where, fix=fix)
    if isinstance(error, errors.HFValidationError):
        return InputError("is not a valid name at the Hub", where=where, fix="check the name")
    if getattr(error, "errno", None) and not isinstance(error, (ConnectionError, TimeoutError)):
        what = f"cannot be written to the cache: {os.strerror(error.errno)}"  # type: ignore[attr-defined]
        return OutputError(what, where=constants.HF_HUB_CACHE, fix="make room, or set HF_HOME")
    reason = connections.cause(error, constants.ENDPOINT)
    what = f"{_plain(constants.ENDPOINT)} cannot be used: {reason}"
    fix = "check the network and HF_ENDPOINT; --offline uses what is in the cache"
    return NetworkError(what, where=where, fix=fix)


def _plain(url: str) -> str:
    """Return *url* without user name and password."""
    return re.sub(r"//[^/@]*@", "//", url)
