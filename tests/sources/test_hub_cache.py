"""What is pulled of the Hub, once, by its real client, and then taken from the cache."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soupmerge.errors import NetworkError, UnsafeError
from soupmerge.sources import connections, hub
from soupmerge.sources.hub.refs import HubRef
from soupmerge.sources.refs import opened
from tests.shared import Outcome
from tests.sources.hub_server import NET, TOKEN, Hub, sha1_of_blob, weights

Typed = Callable[..., Outcome]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_is_pulled_is_what_the_hub_has(site: Hub, unplug: Callable[[], list[Any]]) -> None:
    commit = site.add("me/net", {"model.safetensors": weights()}, licence="mit")
    first = opened("hf-hub:me/net")
    assert first.ref == f"hf-hub:me/net@{commit}"
    assert first.model == NET
    assert first.notes_of_soupmerge["licence"] == "mit"
    assert first.files[0].read_bytes() == weights()
    assert all(a.token == f"Bearer {TOKEN}" for a in site.asked if a.host in site.url)
    elsewhere = [a for a in site.asked if a.host in site.storage]
    assert [a.token for a in elsewhere] == [None]  # the token is not for other hosts
    unplug()
    assert opened("hf-hub:me/net").sha256 == first.sha256
    assert opened(first.ref).ref == first.ref
    with connections.offline():
        assert opened("hf-hub:me/net").ref == first.ref


def test_private_repositories_want_the_token(site: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("me/own", {"model.safetensors": weights()}, private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(NetworkError, match="private and no token was given"):
        opened("hf-hub:me/own")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert opened("hf-hub:me/own").model == NET


def test_a_branch_stands_for_its_commit_until_it_is_pulled(
    site: Hub, soupmerge: Typed, tmp_path: Path
) -> None:
    old = site.add("me/net", {"model.safetensors": weights()})
    judge = ["--data", "digits", "--limit", 8, "-o", tmp_path / "run"]
    assert soupmerge("eval", "hf-hub:me/net", *judge).status == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["inputs"][0]["ref"] == f"hf-hub:me/net@{old}"
    new = site.add("me/net", {"model.safetensors": weights(1)})
    assert opened("hf-hub:me/net").ref.endswith(old)
    refused = soupmerge("pull", "--locked", "hf-hub:me/net")
    assert (refused.status, old in refused.err, new in refused.err) == (4, True, True)
    assert opened("hf-hub:me/net").ref.endswith(old)
    parsed = json.loads(soupmerge("pull", "hf-hub:me/net", "--json").out)
    assert parsed[0]["commit"] == new
    assert soupmerge("pull", "--locked", "hf-hub:me/net").status == 0
    resumed = soupmerge("eval", "hf-hub:me/net", *judge)
    assert resumed.status == 2
    assert "sha256" in resumed.err
    assert soupmerge("eval", f"hf-hub:me/net@{old}", *judge).status == 0


def test_offline_uses_the_cache_and_nothing_else(
    site: Hub, soupmerge: Typed, unplug: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("me/net", {"model.safetensors": weights()})
    opened("hf-hub:me/net")
    unplug()
    for words in (["pull"], ["inspect"]):
        assert soupmerge(*words, "hf-hub:me/net", "--offline").status == 0
        ended = soupmerge(*words, "hf-hub:me/other", "--offline")
        assert ended.status == 6
        assert "no site may be asked" in ended.err
    assert not connections.is_offline()  # the option is over with its command
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert soupmerge("inspect", "hf-hub:me/net").status == 0
    assert soupmerge("inspect", "hf-hub:me/other").status == 6


def test_a_file_that_rots_in_the_cache_is_found_and_pulled_again(site: Hub) -> None:
    site.add("me/net", {"model.safetensors": weights()})
    file = opened("hf-hub:me/net").files[0].resolve()
    file.write_bytes(bytes(b ^ 1 for b in weights()))
    with pytest.raises(UnsafeError, match="removed"):
        opened("hf-hub:me/net")
    assert opened("hf-hub:me/net").files[0].read_bytes() == weights()


def test_the_cache_of_another_program_serves_too(
    site: Hub, unplug: Callable[[], list[Any]]
) -> None:
    from huggingface_hub import constants, hf_hub_download

    site.add("me/net", {"model.safetensors": weights(), "config.json": b"{}"})
    where = {"cache_dir": constants.HF_HUB_CACHE, "endpoint": site.url}
    path = Path(hf_hub_download("me/net", "model.safetensors", **where))
    unplug()
    with connections.offline():
        assert opened("hf-hub:me/net").model == NET
        path.resolve().write_bytes(bytes(b ^ 1 for b in weights()))
        with pytest.raises(UnsafeError, match="removed"):
            opened("hf-hub:me/net")


def test_xet_which_keeps_no_limit_is_not_asked(site: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(file_download, "xet_get", None)
    site.add("me/net", {"model.safetensors": weights()})
    site.faults = {"xet": True}
    assert opened("hf-hub:me/net").files[0].read_bytes() == weights()
    assert constants.HF_HUB_DISABLE_XET is False


# ---- what the cache holds is believed as far as it can be checked


def folder() -> Path:
    return hub.cache.folder_of("me/net")


def test_a_file_is_hashed_when_it_comes_and_when_it_was_touched(
    site: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    digest_of = hub.cache.digest_of

    def counting(file: Any, like: str) -> str:
        hashed.append(file.path.name)
        return digest_of(file, like)

    monkeypatch.setattr(hub.cache, "digest_of", counting)
    site.add("me/net", {"model.safetensors": weights(), "config.json": b"{}"})
    for _ in range(3):
        opened("hf-hub:me/net")
    assert sorted(hashed) == ["config.json", "model.safetensors"]
    path = opened("hf-hub:me/net").files[0]
    os.utime(path.resolve(), (1, 1))
    opened("hf-hub:me/net")
    opened("hf-hub:me/net")
    assert hashed[2:] == ["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_small_file_is_held_to_git_s_hash_and_a_large_one_to_sha256(site: Hub, name: str) -> None:
    files = {"model.safetensors": weights(), "config.json": b"{}"}
    commit = site.add("me/net", files)
    opened("hf-hub:me/net")
    path = folder() / "snapshots" / commit / name
    blob = path.resolve()
    assert blob.name == (sha1_of_blob(b"{}") if name == "config.json" else sha256(weights()))
    blob.write_bytes(b"x" * len(files[name]))
    with pytest.raises(UnsafeError, match=f"{name} has the hash .* Hub's is {blob.name}; it"):
        opened("hf-hub:me/net")
    assert not blob.exists()
    assert not path.is_symlink()
    with connections.offline(), pytest.raises(NetworkError):
        opened("hf-hub:me/net")


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": "soupmerge-listing/2", "licence": null, "files": {}}',
        b'{"format": "soupmerge-listing/1", "licence": null}',
        b'{"format": "soupmerge-listing/1", "licence": null, "files": {"a": [1]}}',
        b'{"format": "soupmerge-listing/1", "licence": null, "files": {"a": ["x", "y"]}}',
    ],
)
def test_notes_that_cannot_be_read_are_asked_for_again(site: Hub, damage: bytes) -> None:
    commit = site.add("me/net", {"model.safetensors": weights()}, licence="mit")
    opened("hf-hub:me/net")
    notes = folder() / ".soupmerge" / f"{commit}.json"
    parsed = json.loads(notes.read_text())
    size = len(weights())
    assert parsed == {
        "format": "soupmerge-listing/1",
        "licence": "mit",
        "files": {"model.safetensors": [size, sha256(weights())]},
    }
    notes.write_bytes(damage)
    with connections.offline():
        assert opened("hf-hub:me/net").model == NET  # by the client's own names
    asked = len(site.asked)
    assert opened("hf-hub:me/net").notes_of_soupmerge["licence"] == "mit"
    assert len(site.asked) > asked
    assert json.loads(notes.read_text()) == parsed


@pytest.mark.parametrize("text", ["", "main", "g" * 40, "é" * 40])
def test_a_branch_that_stands_for_no_commit_is_asked_for_again(site: Hub, text: str) -> None:
    commit = site.add("me/net", {"model.safetensors": weights()})
    opened("hf-hub:me/net")
    pointer = folder() / "refs" / "main"
    assert pointer.read_text() == commit
    pointer.write_text(text)
    with connections.offline(), pytest.raises(NetworkError):
        opened("hf-hub:me/net")
    opened("hf-hub:me/net")
    assert pointer.read_text() == commit


def test_a_branch_may_have_a_path_and_a_commit_moves_none(site: Hub) -> None:
    one = site.add("me/net", {"model.safetensors": weights()})
    two = site.add("me/net", {"model.safetensors": weights(1)}, branch="refs/pr/3")
    assert opened("hf-hub:me/net@refs/pr/3").ref == f"hf-hub:me/net@{two}"
    assert (folder() / "refs" / "refs" / "pr" / "3").read_text() == two
    assert opened(f"hf-hub:me/net@{one}").files[0].read_bytes() == weights()
    assert not (folder() / "refs" / "main").exists()
    assert not (folder() / "refs" / one).exists()


@pytest.mark.parametrize(("age", "goes"), [(3500, False), (3700, True)])
def test_a_download_that_nobody_writes_to_for_an_hour_is_dead(
    site: Hub, age: float, goes: bool
) -> None:
    site.add("me/net", {"model.safetensors": weights()})
    part = folder() / "blobs" / "a.1.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x")
    os.utime(part, (time.time() - age,) * 2)
    opened("hf-hub:me/net")
    assert part.exists() != goes


def test_half_of_a_repository_in_the_cache_is_not_enough_offline(site: Hub) -> None:
    site.add("me/net", {"model.safetensors": weights(), "config.json": b"{}"})
    (opened("hf-hub:me/net").files[0].parent / "config.json").unlink()
    with connections.offline(), pytest.raises(NetworkError, match="is missing"):
        opened("hf-hub:me/net")
    assert len(hub.pull(HubRef.parse("hf-hub:me/net")).files) == 2
