"""``hf-hub:`` references → checkpoints: pulled once, checked by hash, then read from the cache."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from soupmerge.errors import InputError, NetworkError, UnsafeError, near_miss
from soupmerge.sources import network
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
    """What lies in the cache of a reference, every file with the hash that the Hub gave.

    Attributes:
        ref: the reference, at one commit.
        weights: the file of weights, or the index of its shards.
        files: all files that were pulled.
        licence: what the repository says, in the Hub's words.
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
        model, doubt = timm_configs.network_in(config) if config else (None, None)
        told = {"model": model, "licence": self.licence}
        notes = {k: v for k, v in told.items() if v} | found.notes_of_soupmerge
        said = [*found.notes, *([doubt] if doubt and not found.model else [])]
        if self.weights.suffix in TORCH_NAMES:
            said.append("a pickle, which was read as data: nothing in it was run")
        metadata = {**found.metadata, "soupmerge": json.dumps(notes)}
        return dataclasses.replace(
            found, ref=str(self.ref), metadata=metadata, notes=tuple(dict.fromkeys(said))
        )


def opened(ref: str, *, weights_key: str | None = None, foreign: bool = False) -> Checkpoint:
    """Return the checkpoint at *ref*, from the cache if it is there, else from the Hub.

    What is in the cache is taken as it is, without a question to the Hub: a branch stands for the
    commit that it had when it was pulled, until it is pulled again.

    Raises:
        UsageError: *ref* is not of the form.
        NetworkError: it is not in the cache, and cannot be pulled.
        UnsafeError: a file's hash is not the one the Hub gives, or reading it would run code.
        InputError: the repository holds no weights, or several.
    """
    wanted = HubRef.parse(ref)
    return (cached(wanted) or pull(wanted)).checkpoint(weights_key, foreign=foreign)


def cached(ref: HubRef) -> Pulled | None:
    """Return what *ref* stands for if all of it lies in the cache, without asking anyone."""
    sha = cache.known_commit(ref)
    if sha is None:
        return None
    whole = cache.read(ref.repo, sha)
    if whole is None and not network.is_offline():
        return None  # another program's: only the Hub knows whether there are better weights
    names = list(whole.files) if whole else cache.held(ref.repo, sha)
    weights = _weights(names, ref)
    found = {name: cache.path_of(ref.repo, sha, name) for name in _wanted(names, weights)}
    index = found[weights]
    if index is not None and weights.endswith(places.INDEX):
        found |= {name: cache.path_of(ref.repo, sha, name) for name in _shards(index, weights)}
    there = {name: path for name, path in found.items() if path is not None}
    if index is None or len(there) < len(found):
        return None
    for name, path in there.items():
        cache.require_intact(ref.repo, path, whole.files.get(name) if whole else None, ref)
    licence = whole.licence if whole else None
    return Pulled(ref.at(sha), index, tuple(there.values()), licence)


def pull(ref: HubRef, *, locked: bool = False, progress: Progress | None = None) -> Pulled:
    """Ask the Hub what *ref* is now, and bring into the cache what is not there.

    Args:
        locked: refuse a branch that has moved since it was last pulled.
        progress: is told of megabytes; None leaves it to the client to show them.

    Raises:
        NetworkError, UnsafeError, InputError, OutputError: see `opened`.
    """
    from soupmerge.sources.hub import client

    whole, before = client.listing(ref), cache.known_commit(ref)
    if locked and before != whole.commit:
        what = f"is at {whole.commit}, in the cache is {before or 'nothing'}"
        raise UnsafeError(what, where=ref, fix="name the commit that is meant, or drop --locked")
    weights = _weights(list(whole.files), ref)
    cache.sweep(ref.repo)
    found = _brought(_wanted(list(whole.files), weights), whole, ref, progress)
    if weights.endswith(places.INDEX):
        found += _brought(_shards(found[0], weights), whole, ref, progress)
    cache.keep(whole, ref)
    return Pulled(ref.at(whole.commit), found[0], tuple(found), whole.licence)


def _weights(names: Sequence[str], ref: HubRef) -> str:
    """Return which of the repository's files *names* is meant by *ref*."""
    if ref.file is None:
        top = [name for name in names if "/" not in name and is_inside(name)]
        return places.preferred(top, ref, written=f"{ref}:")
    if ref.file not in names:
        fix = near_miss(ref.file, names) if names else "check the name"
        raise NetworkError("there is no such file in the repository", where=ref, fix=fix)
    return ref.file


def _wanted(names: Sequence[str], weights: str) -> list[str]:
    """Return *weights*, and beside them what names their network."""
    config = f"{weights.rpartition('/')[0]}/{CONFIG}".lstrip("/")
    return [weights, *([config] if config in names else [])]


def _shards(index: Path, name: str) -> list[str]:
    folder = name.rpartition("/")[0]
    return [
        f"{folder}/{shard}".lstrip("/") for shard in sorted({*places.shards_of(index).values()})
    ]


def _brought(
    names: Sequence[str], whole: Listing, ref: HubRef, progress: Progress | None
) -> list[Path]:
    from soupmerge.sources.hub import client

    if lacking := [name for name in names if name not in whole.files]:
        what = "its index names shards that the repository lacks"
        raise InputError(what, problems=lacking, where=ref, fix="name other weights")
    paths = []
    for name in names:
        path = client.download(whole, name, ref, progress)
        cache.require_intact(ref.repo, path, whole.files[name], ref)
        paths.append(path)
    return paths
