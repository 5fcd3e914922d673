"""What is pulled of the Hub, once, by its real client, and then taken from the cache."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soupmerge.errors import NetworkError, UnsafeError
from soupmerge.sources import hub, network
from soupmerge.sources.refs import opened
from tests.shared import Outcome
from tests.sources.hub_server import NET, TOKEN, Hub, weights

Typed = Callable[..., Outcome]


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
    with network.offline():
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
    told = json.loads(soupmerge("pull", "hf-hub:me/net", "--json").out)
    assert told[0]["commit"] == new
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
    assert not network.is_offline()  # the option is over with its command
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
    with network.offline():
        assert opened("hf-hub:me/net").model == NET
        path.resolve().write_bytes(bytes(b ^ 1 for b in weights()))
        with pytest.raises(UnsafeError, match="removed"):
            opened("hf-hub:me/net")


def test_what_killed_downloads_left_goes_with_time(site: Hub, tmp_path: Path) -> None:
    site.add("me/net", {"model.safetensors": weights()})
    folder = hub.cache.folder_of("me/net") / "blobs"
    folder.mkdir(parents=True)
    old, live = folder / "a.1.incomplete", folder / "a.2.incomplete"
    for file in (old, live):
        file.write_bytes(b"x")
    os.utime(old, (0, 0))
    opened("hf-hub:me/net")
    assert (old.exists(), live.exists()) == (False, True)


def test_xet_which_keeps_no_limit_is_not_asked(site: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(file_download, "xet_get", None)
    site.add("me/net", {"model.safetensors": weights()})
    site.faults = {"xet": True}
    assert opened("hf-hub:me/net").files[0].read_bytes() == weights()
    assert constants.HF_HUB_DISABLE_XET is False
