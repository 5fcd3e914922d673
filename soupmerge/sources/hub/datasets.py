"""Files of data sets at the Hub: downloaded once, checked by hash, then read from the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from soupmerge.sources import connections
from soupmerge.sources.hub import cache, client
from soupmerge.sources.hub.cache import Listing
from soupmerge.sources.hub.refs import HubRef, is_inside


def files(ref: HubRef, choose: Callable[[Sequence[str]], Sequence[str]]) -> list[Path]:
    """Return the files of the data set *ref* that *choose* chooses by their names.

    The Hub is not asked about what is in the cache: a branch stands for the commit that it had
    when the data set was first read.

    Raises:
        NetworkError: they are not in the cache, and cannot be downloaded.
        UnsafeError: a file's hash is not the one that the Hub gives.
        OutputError: the cache cannot be written.
    """
    sha = cache.known_commit(ref)
    listing = cache.read(ref.repo, sha) if sha else None
    if sha and listing is None and connections.is_offline():  # cached by another program
        found = (_cached(ref, sha, name, None) for name in choose(cache.names_in(ref.repo, sha)))
        return [path for path in found if path is not None]
    if listing is None:
        listing = client.listing(ref)
        cache.write(listing, ref)
    cache.remove_abandoned(ref.repo)
    return [_file(ref, listing, name) for name in choose([*filter(is_inside, listing.files)])]


def _file(ref: HubRef, listing: Listing, name: str) -> Path:
    """Return the path of the file *name*, after downloading it if need be."""
    if (path := _cached(ref, listing.commit, name, listing)) is None:
        with client.bars_on_terminals():
            path = client.download(listing, name, ref, None)
        cache.require_intact(ref.repo, path, listing.files[name], ref)
    return path


def _cached(ref: HubRef, sha: str, name: str, listing: Listing | None) -> Path | None:
    """Return the path of the file *name* in the cache, with the hash that it should have."""
    if (path := cache.path_of(ref.repo, sha, name)) is not None:
        cache.require_intact(ref.repo, path, listing.files[name] if listing else None, ref)
    return path
