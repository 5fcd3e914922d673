"""Uploads of a folder to a repository of the Hub, compared with what arrived there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from soupmerge.errors import NetworkError, UsageError
from soupmerge.sources.hub import client
from soupmerge.sources.hub.cache import digest_of
from soupmerge.sources.hub.refs import HubRef
from soupmerge.storage.reading import StableFile

MESSAGE = "A soup, by soupmerge"


@dataclass(frozen=True)
class Pushed:
    """Where a folder was uploaded to: its reference, pinned to the commit, and its page."""

    ref: HubRef
    url: str


def push(
    folder: Path | str, names: Sequence[str], target: HubRef, *, private: bool = False
) -> Pushed:
    """Upload the files *names* of *folder* to the repository *target*, in one commit.

    Args:
        private: create a private repository; an existing public one is refused.

    Raises:
        UsageError: *target* names a file or a revision, or is public although *private* is set.
        NetworkError: the Hub cannot be reached, refuses, or holds something other than was sent.
        InputError: a file cannot be read.
    """
    if target.file or target.revision != "main":
        fix = f"write hf-hub:{target.repo}"
        raise UsageError("a push goes to a repository's main branch", where=target, fix=fix)
    files = {name: StableFile.seen(Path(folder, name)) for name in names}
    with client.watched(target), client.bars_on_terminals():
        from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token

        if get_token() is None:
            fix = "run hf auth login, or set HF_TOKEN"
            raise NetworkError("the Hub requires a token for writing", where=target, fix=fix)
        api = HfApi(endpoint=constants.ENDPOINT, library_name="soupmerge")
        api.create_repo(target.repo, private=private or None, exist_ok=True)
        if private and not api.model_info(target.repo, timeout=client.seconds()).private:
            fix = "leave out --private, or name another repository"
            raise UsageError("exists, and is public", where=target, fix=fix)
        additions = [CommitOperationAdd(name, str(file.path)) for name, file in files.items()]
        done = api.create_commit(target.repo, additions, commit_message=MESSAGE)
    pinned = target.at(done.oid)
    stored = client.listing(pinned).files
    wrong = [
        name
        for name, file in files.items()
        if name not in stored or digest_of(file, stored[name].digest) != stored[name].digest
    ]
    if wrong:
        what = "what arrived is not what was sent"
        raise NetworkError(what, problems=wrong, where=pinned, fix="push it again")
    return Pushed(pinned, f"{constants.ENDPOINT}/{target.repo}")
