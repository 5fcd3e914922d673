"""Folders that are pushed to the Hub, and compared with what arrived."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soupmerge.sources.refs import opened
from tests.shared import Outcome
from tests.sources.hub_server import Hub, weights

Typed = Callable[..., Outcome]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's


def exported(home: Path) -> dict[str, bytes]:
    """Make a folder as `export` would, and return what is in it."""
    readme = b"---\nlicense: mit\n---\n# x\n"
    files = {"model.safetensors": weights(), "config.json": b"{}", "README.md": readme}
    home.mkdir()
    for name, data in files.items():
        (home / name).write_bytes(data)
    return files


def test_a_push_arrives_as_it_was(site: Hub, soupmerge: Typed, tmp_path: Path) -> None:
    files = exported(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("not for others")
    planned = soupmerge("push", tmp_path / "out", "hf-hub:me/soup", "--dry-run")
    assert (planned.status, site.asked) == (0, [])
    assert "notes.txt" not in planned.out
    ended = soupmerge("push", tmp_path / "out", "hf-hub:me/soup", "--private", "--json")
    assert ended.status == 0, ended.err
    repo = site.repos["me/soup"]
    assert repo.private
    commit = repo.refs["main"]
    assert {**repo.commits[commit], ".gitattributes": b""} == {**files, ".gitattributes": b""}
    assert json.loads(ended.out)["ref"] == f"hf-hub:me/soup@{commit}"
    assert [a.token for a in site.asked if a.method == "PUT"] == [None]
    assert opened("hf-hub:me/soup").files[0].read_bytes() == weights()


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({"torn commit": True}, "what arrived is not what was sent: model.safetensors"),
        ({"status": 403}, "or it is private and the token does not grant access (status 403)"),
        ({"status": 500}, "the Hub answers with status 500; try again later"),
        ({"conflict": True}, "reported a conflict with another operation 20 times"),
    ],
)
def test_a_push_that_fails_says_so(
    site: Hub, soupmerge: Typed, tmp_path: Path, faults: dict[str, Any], words: str
) -> None:
    exported(tmp_path / "out")
    site.faults = faults
    ended = soupmerge("push", tmp_path / "out", "hf-hub:me/soup")
    assert (ended.status, words in ended.err) == (6, True), ended.err
    assert ended.out == ""


def test_what_should_be_private_is_never_pushed_to_a_public_repository(
    site: Hub, soupmerge: Typed, tmp_path: Path
) -> None:
    exported(tmp_path / "out")
    commit = site.add("me/soup", {".gitattributes": b""})
    ended = soupmerge("push", tmp_path / "out", "hf-hub:me/soup", "--private")
    assert (ended.status, "is public" in ended.err) == (2, True)
    assert site.repos["me/soup"].refs == {"main": commit}
    assert not [a for a in site.asked if a.method == "PUT"]


def test_a_push_wants_a_token_and_a_repository(
    site: Hub, soupmerge: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(tmp_path / "out")
    assert soupmerge("push", tmp_path / "out", "hf-hub:me/soup@dev").status == 2
    assert soupmerge("push", tmp_path / "out", "me/soup").status == 2
    assert soupmerge("push", tmp_path, "hf-hub:me/soup").status == 3
    assert soupmerge("push", tmp_path / "out", "hf-hub:me/soup", "--offline").status == 6
    monkeypatch.delenv("HF_TOKEN")
    ended = soupmerge("push", tmp_path / "out", "hf-hub:me/soup")
    assert (ended.status, "HF_TOKEN" in ended.err) == (6, True)
    assert not site.asked


def test_a_second_push_is_another_commit_on_top(
    site: Hub, soupmerge: Typed, tmp_path: Path
) -> None:
    files = exported(tmp_path / "out")
    commit = site.add("me/soup", {"old.txt": b"stays", "README.md": b"old"}, private=True)
    for private in ([], ["--private"]):
        assert soupmerge("push", tmp_path / "out", "hf-hub:me/soup", *private).status == 0
    repo = site.repos["me/soup"]
    assert repo.refs["main"] != commit
    assert repo.commits[repo.refs["main"]] == {**files, "old.txt": b"stays"}


def test_xet_is_not_asked_to_store(
    site: Hub, soupmerge: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import _commit_api, constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(_commit_api, "_upload_xet_files", None)
    exported(tmp_path / "out")
    assert soupmerge("push", tmp_path / "out", "hf-hub:me/soup").status == 0
    assert constants.HF_HUB_DISABLE_XET is False
