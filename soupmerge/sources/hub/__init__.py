"""``hf-hub:`` references → checkpoints: pulled once, checked by hash, then read from the cache."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from soupmerge.errors import InputError, NetworkError, UnsafeError, near_miss
from soupmerge.sources import connections
from soupmerge.sources.hub import cache, timm_configs
from soupmerge.sources.hub.cache import Listing
from soupmerge.sources.hub.refs import HubRef, is_inside
from soupmerge.weights import places
from soupmerge.weights.files import Checkpoint, open_checkpoint
from soupmerge.weights.kinds import TORCH_NAMES

if TYPE_CHECKING:
    from soupmerge.types import Progress

CONFIG = "config.json"


@dataclass(frozen=True)
class Pulled:
    """The files of a reference in the cache, each checked by the hash that the Hub gave.

    Attributes:
        ref: the reference, at one commit.
        weights: the file of weights, or the index of its shards.
        files: all files that were pulled.
        licence: the licence that the repository states, as the Hub spells it.
    """

    ref: HubRef
    weights: Path
    files: tuple[Path, ...]
    licence: str | None = None

    @property
    def holding(self) -> tuple[Path, ...]:
        """The files that hold the tensors."""
        return tuple(file for file in self.files if file.suffix != ".json")

    def checkpoint(self, weights_key: str | None = None, *, foreign: bool = False) -> Checkpoint:
        """Return the weights, named by their commit, with the network that ``config.json`` names.

        Raises:
            InputError, UnsafeError: see `soupmerge.weights.files.open_checkpoint`.
        """
        found = open_checkpoint(self.weights, weights_key=weights_key, foreign=foreign)
        config = next((file for file in self.files if file.name == CONFIG), None)
        model, problem = timm_configs.network_in(config) if config else (None, None)
        facts = {"model": model, "licence": self.licence}
        soupmerge = {k: v for k, v in facts.items() if v} | found.notes_of_soupmerge
        notes = [*found.notes, *([problem] if problem and not found.model else [])]
        if self.weights.suffix in TORCH_NAMES:
            notes.append("a pickle, which was read as data: nothing in it was run")
        metadata = {**found.metadata, "soupmerge": json.dumps(soupmerge)}
        return dataclasses.replace(
            found, ref=str(self.ref), metadata=metadata, notes=tuple(dict.fromkeys(notes))
        )


def opened(ref: str, *, weights_key: str | None = None, foreign: bool = False) -> Checkpoint:
    """Return the checkpoint at *ref*, from the cache if it is there, else from the Hub.

    The Hub is not asked about what is in the cache: a branch stands for the commit that it had
    when it was last pulled.

    Raises:
        UsageError: *ref* is malformed.
        NetworkError: it is not in the cache, and cannot be pulled.
        UnsafeError: a file's hash is not the one that the Hub gives, or reading it would run code.
        InputError: the repository holds no weights, or several.
    """
    hub_ref = HubRef.parse(ref)
    return (cached(hub_ref) or pull(hub_ref)).checkpoint(weights_key, foreign=foreign)


def cached(ref: HubRef) -> Pulled | None:
    """Return what *ref* stands for if all of it is in the cache, without asking the Hub.

    Raises:
        UnsafeError, InputError: see `opened`.
    """
    sha = cache.known_commit(ref)
    if sha is None:
        return None
    listing = cache.read(ref.repo, sha)
    if listing is None and not connections.is_offline():
        return None  # cached by another program: the Hub may have other weights that are preferred
    names = list(listing.files) if listing else cache.names_in(ref.repo, sha)
    weights = _weights(names, ref)
    paths = {name: cache.path_of(ref.repo, sha, name) for name in _needed(names, weights)}
    index = paths[weights]
    if index is not None and weights.endswith(places.INDEX):
        paths |= {name: cache.path_of(ref.repo, sha, name) for name in _shards(index, weights)}
    there = {name: path for name, path in paths.items() if path is not None}
    if index is None or len(there) < len(paths):
        return None
    for name, path in there.items():
        cache.require_intact(ref.repo, path, listing.files.get(name) if listing else None, ref)
    licence = listing.licence if listing else None
    return Pulled(ref.at(sha), index, tuple(there.values()), licence)


def pull(ref: HubRef, *, locked: bool = False, progress: Progress | None = None) -> Pulled:
    """Ask the Hub what *ref* is now, and download what is not in the cache.

    Args:
        locked: refuse a branch that has moved since it was last pulled.
        progress: callback for progress in megabytes, see `types.Progress`; None shows the
            client's own bars.

    Raises:
        NetworkError, UnsafeError, InputError: see `opened`.
        OutputError: the cache cannot be written.
    """
    from soupmerge.sources.hub import client

    listing, before = client.listing(ref), cache.known_commit(ref)
    if locked and before != listing.commit:
        what = f"is at {listing.commit}, but the cache has {before or 'nothing'}"
        fix = "name a commit, or leave out --locked"
        raise UnsafeError(what, where=ref, fix=fix)
    weights = _weights(list(listing.files), ref)
    cache.remove_abandoned(ref.repo)
    paths = _download(_needed(list(listing.files), weights), listing, ref, progress)
    if weights.endswith(places.INDEX):
        paths += _download(_shards(paths[0], weights), listing, ref, progress)
    cache.write(listing, ref)
    return Pulled(ref.at(listing.commit), paths[0], tuple(paths), listing.licence)


def _weights(names: Sequence[str], ref: HubRef) -> str:
    """Return which of the repository's files *names* holds the weights of *ref*."""
    if ref.file is None:
        top = [name for name in names if "/" not in name and is_inside(name)]
        return places.preferred(top, ref, written=f"{ref}:")
    if ref.file not in names:
        fix = near_miss(ref.file, names) if names else "check the name"
        raise NetworkError("there is no such file in the repository", where=ref, fix=fix)
    return ref.file


def _needed(names: Sequence[str], weights: str) -> list[str]:
    """Return *weights*, and the file beside them that names their network, if there is one."""
    config = f"{weights.rpartition('/')[0]}/{CONFIG}".lstrip("/")
    return [weights, *([config] if config in names else [])]


def _shards(index: Path, name: str) -> list[str]:
    """Return the shards that *index* lists, relative to the repository, where it is *name*."""
    folder = name.rpartition("/")[0]
    shards = sorted({*places.shards_of(index).values()})
    return [f"{folder}/{shard}".lstrip("/") for shard in shards]


def _download(
    names: Sequence[str], listing: Listing, ref: HubRef, progress: Progress | None
) -> list[Path]:
    from soupmerge.sources.hub import client

    if missing := [name for name in names if name not in listing.files]:
        what = "its index names shards that the repository lacks"
        raise InputError(what, problems=missing, where=ref, fix="name other weights")
    paths = []
    for name in names:
        path = client.download(listing, name, ref, progress)
        cache.require_intact(ref.repo, path, listing.files[name], ref)
        paths.append(path)
    return paths
