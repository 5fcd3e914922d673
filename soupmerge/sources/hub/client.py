"""All that is said to the Hub, by its own client, watched: what it answers is anyone's.

The client follows redirects to anywhere, retries for as long as bytes come, waits for ever where it
is not told otherwise, and names files by what a header says. A watch is put on its connections;
whatever goes wrong becomes an error of ours that says what to do, and that no token can stand in.
Its second client, for Xet, makes connections of its own, which nothing can watch: it is not used.
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
from soupmerge.sources import network
from soupmerge.sources.hub.cache import Listing, Stored
from soupmerge.sources.hub.refs import COMMIT, HubRef

if TYPE_CHECKING:
    from soupmerge.types import Progress

HOPS = 5
"""Redirects that are followed one after the other."""
ATTEMPTS = 20
"""Answers with a body that one file may take; the client alone would begin again for ever."""


def listing(ref: HubRef) -> Listing:
    """Return what the Hub says that *ref* is: its commit, its files and their hashes.

    Raises:
        NetworkError: it cannot be reached, refuses, or does not answer as it should.
        UnsafeError: its answer leads elsewhere.
    """
    with talking(ref):
        from huggingface_hub import HfApi, constants

        info: Any = HfApi(endpoint=constants.ENDPOINT, library_name="soupmerge").model_info(
            ref.repo, revision=ref.revision, files_metadata=True, timeout=seconds()
        )
        files = {sibling.rfilename: _stored(sibling) for sibling in info.siblings or ()}
        licence = getattr(info.card_data, "license", None)
    if not isinstance(info.sha, str) or not COMMIT.fullmatch(info.sha):
        raise NetworkError("the Hub names no commit", where=ref, fix="check HF_ENDPOINT")
    if ref.pinned and info.sha != ref.revision:
        what = f"the Hub gives the commit {info.sha} for it"
        raise UnsafeError(what, where=ref, fix="check HF_ENDPOINT")
    known = {name: stored for name, stored in files.items() if stored}
    return Listing(ref.repo, info.sha, known, licence if isinstance(licence, str) else None)


def _stored(sibling: Any) -> Stored | None:
    size, lfs = sibling.size, sibling.lfs
    digest = lfs.sha256 if lfs else sibling.blob_id
    if not isinstance(size, int) or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", str(digest)):
        return None  # nothing that could be held against its hash is taken
    return Stored(size, digest)


def download(whole: Listing, name: str, where: HubRef, progress: Progress | None) -> Path:
    """Bring the file *name* of *whole* into the client's cache, and return where it lies.

    Raises:
        NetworkError: it does not come, or not as it was announced.
        UnsafeError: the Hub's answer leads elsewhere.
        OutputError: it cannot be kept.
    """
    size = whole.files[name].size
    with talking(where):
        from huggingface_hub import constants, hf_hub_download

        path = hf_hub_download(
            whole.repo,
            name,
            revision=whole.commit,
            endpoint=constants.ENDPOINT,
            cache_dir=constants.HF_HUB_CACHE,
            library_name="soupmerge",
            etag_timeout=seconds(),
            tqdm_class=_meter(name, size, where, progress),
        )
    return Path(path)


def seconds() -> float:
    """Return how long to wait for an answer to begin."""
    from huggingface_hub import constants

    return min(network.SILENCE, float(constants.HF_HUB_ETAG_TIMEOUT))


@contextlib.contextmanager
def talking(where: object) -> Iterator[None]:
    """Watch what the client does in the block, and explain what goes wrong.

    Raises:
        NetworkError, UnsafeError, OutputError: as `listing` and `download`.
    """
    require_online(where)
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils import _http

    # The client can set what makes its connections, and not tell what did.
    before: Any = getattr(_http, "_GLOBAL_CLIENT_FACTORY", _http.default_client_factory)
    watch, log = _Watch(where), logging.getLogger("huggingface_hub")
    level, xet = log.level, constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = True
    set_client_factory(lambda: watch.put_on(before()))
    log.setLevel(max(level, logging.ERROR))  # it would tell of each retry, with addresses
    try:
        yield
    except SoupmergeError:
        raise
    except Exception as error:  # from None: what the client says may repeat what it was sent
        raise explained(error, where) from None
    finally:
        log.setLevel(level)
        set_client_factory(before)
        constants.HF_HUB_DISABLE_XET = xet


@contextlib.contextmanager
def bars_on_terminals() -> Iterator[None]:
    """Let the client draw its bars only where there is a terminal; some it draws anywhere."""
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
    """Refuse to ask a site if that is not wanted.

    Raises:
        NetworkError: it is not.
    """
    from huggingface_hub import constants

    fix = "run soupmerge pull where there is a network"
    with network.offline(constants.is_offline_mode()):  # it has variables of its own
        network.require_online(where, fix)


class _Watch:
    """Limits what each request may take, and looks at each answer before the client acts on it."""

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
        """Give *request* the limits that it was not given, and have its connections timed."""
        given = request.extensions.get("timeout") or {}
        usual = {"connect": network.CONNECT, "pool": network.CONNECT}
        limits = {
            key: usual.get(key, network.WORK) if given.get(key) is None else given[key]
            for key in ("connect", "read", "write", "pool")
        }
        request.extensions = {**request.extensions, "timeout": limits, "trace": self._trace}

    def _trace(self, event: str, told: Mapping[str, Any]) -> None:
        """Time what is read from a connection that has been made, with TLS or without."""
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        stream = told["return_value"]
        pace = network.Pace(self.where, "try again later")
        read, write = stream.read, stream.write

        def asking(*args: Any, **kwargs: Any) -> None:
            pace.restart()  # what is read next is another answer
            write(*args, **kwargs)

        stream.read, stream.write = partial(pace.timed, read), asking

    def __call__(self, response: Any) -> None:
        if response.has_redirect_location:
            self._redirect(response)
        else:
            self.hops = 0
            self.bodies += response.request.method == "GET"
        if self.bodies > ATTEMPTS:
            what = f"the connection broke off {ATTEMPTS} times"
            raise NetworkError(what, where=self.where, fix="try again later")
        self.conflicts += response.status_code == 409  # which the client may take for a "not yet"
        if self.conflicts > ATTEMPTS:
            what = f"the Hub says {ATTEMPTS} times that another operation is in its way"
            raise NetworkError(what, where=self.where, fix="try again later")
        if response.request.method == "HEAD":
            self._names(response.headers)

    def _redirect(self, response: Any) -> None:
        self.hops += 1
        try:
            target = response.url.join(response.headers["location"])
        except Exception as error:  # the client's library has an error of its own for it
            what = f"is redirected to what is no address ({type(error).__name__})"
            raise NetworkError(what, where=self.where, fix="check HF_ENDPOINT") from None
        lowered = response.url.scheme == "https" and target.scheme != "https"
        if lowered or target.scheme not in ("http", "https"):
            what = f"is redirected from {response.url.scheme} to {target.scheme}, which is refused"
            raise NetworkError(what, where=self.where, fix="check HF_ENDPOINT")
        if self.hops > HOPS:
            what = f"is redirected more than {HOPS} times"
            raise NetworkError(what, where=self.where, fix="check HF_ENDPOINT")

    def _names(self, headers: Any) -> None:
        # The client makes these the names of files in its cache, as they are.
        for header in ("x-linked-etag", "etag", "x-repo-commit"):
            value = headers.get(header, "").removeprefix("W/").strip('"')
            if value and not re.fullmatch(r"[\w-]+(\.[\w-]+)*", value):
                what = f"the Hub's {header} is no name of a file"
                raise UnsafeError(what, where=self.where, fix="check HF_ENDPOINT")


def _meter(name: str, size: int, where: object, progress: Progress | None) -> type[Any]:
    """Return the client's progress bar, which also refuses more bytes than were announced."""
    from huggingface_hub.utils.tqdm import tqdm

    class Meter(tqdm):  # type: ignore[type-arg,misc,unused-ignore]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.come = int(kwargs.get("initial") or 0)
            super().__init__(*args, **{**kwargs, "disable": True} if progress else kwargs)

        def update(self, n: float | None = 1) -> Any:
            self.come += int(n or 0)
            if self.come > size:
                what = f"{name} should have {size:,} bytes, and more came"
                raise NetworkError(what, where=where, fix="try again later")
            if progress:
                progress(f"{name}, MB", self.come // 1_000_000, size // 1_000_000)
            return super().update(n)

    return Meter


def explained(error: Exception, where: object) -> SoupmergeError:
    """Return what *error* of the client means, and what to do; nothing that was sent is in it."""
    from huggingface_hub import constants, errors, get_token

    outer = (errors.LocalEntryNotFoundError, RuntimeError)  # what the client wraps others in
    if isinstance(error, outer) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    known = "the token was not enough" if get_token() else "no token was given"
    repo = getattr(where, "repo", where)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        fix = f"accept its terms at {_plain(constants.ENDPOINT)}/{repo}, then run hf auth login"
        return NetworkError(f"is gated, and {known}", where=where, fix=fix)
    if isinstance(error, errors.RevisionNotFoundError):
        return NetworkError("has no such revision", where=where, fix="check what follows the @")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return NetworkError("has no such file", where=where, fix="check what follows the :")
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        what = f"there is no such repository, or it is private and {known} (status {status})"
        return NetworkError(
            what, where=where, fix="check the name; for a private one: hf auth login"
        )
    if status is not None:
        fix = "try again later" if status in (429, 500, 502, 503, 504) else "check HF_ENDPOINT"
        return NetworkError(f"the Hub answers with status {status}", where=where, fix=fix)
    if isinstance(error, errors.HFValidationError):
        return InputError("is no name that the Hub takes", where=where, fix="check the name")
    if getattr(error, "errno", None) and not isinstance(error, (ConnectionError, TimeoutError)):
        what = f"cannot be kept in the cache: {os.strerror(error.errno)}"  # type: ignore[attr-defined]
        return OutputError(what, where=constants.HF_HUB_CACHE, fix="make room, or set HF_HOME")
    reason = network.cause(error, constants.ENDPOINT)
    what = f"{_plain(constants.ENDPOINT)} does not answer as it should: {reason}"
    fix = "check the network and HF_ENDPOINT; --offline uses what is in the cache"
    return NetworkError(what, where=where, fix=fix)


def _plain(url: str) -> str:
    """Return *url* without a user's name and password."""
    return re.sub(r"//[^/@]*@", "//", url)
