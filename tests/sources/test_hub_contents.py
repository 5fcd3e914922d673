"""What repositories of the Hub hold, and what is made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import soupmerge as sm
from soupmerge.sources import hub
from soupmerge.sources.hub.refs import HubRef
from soupmerge.sources.refs import opened
from tests.shared import Outcome
from tests.sources.hub_server import NET, Hub, pickled, weights

Typed = Callable[..., Outcome]


def sharded(*names: str) -> dict[str, bytes]:
    import safetensors.torch

    state = sm.model(NET).state_dict()
    homes = {key: names[i % len(names)] for i, key in enumerate(state)}
    files = {
        name: safetensors.torch.save({k: state[k] for k in state if homes[k] == name})
        for name in names
        if ".." not in name
    }
    index = json.dumps({"weight_map": homes}).encode()
    return {"model.safetensors.index.json": index, **files}


def test_shards_are_pulled_together(site: Hub) -> None:
    site.add("me/net", sharded("m-1-of-2.safetensors", "m-2-of-2.safetensors"))
    found = opened("hf-hub:me/net")
    assert len(found.files) == 2
    state = sm.model(NET).state_dict()
    assert all(torch.equal(found[n], t) for n, t in state.items())


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        (sharded("a.safetensors", "../b.safetensors"), 4, "may be outside its folder"),
        (sharded("a.safetensors", "b.bin"), 4, "not a .safetensors file"),
        ({**sharded("a.safetensors", "b.safetensors"), "b.safetensors": None}, 3, "lacks"),
        ({"README.md": b"x"}, 3, "found none"),
        ({"a.pt": b"x", "b.pt": b"y"}, 3, "hf-hub:me/net:a.pt"),
        ({**sharded("a.safetensors"), "model.safetensors": b"x"}, 3, "may be two models"),
        ({"model.safetensors": b"<html>"}, 3, "web page"),
        ({"pytorch_model.bin": pickled({"x": Path("x")})}, 4, "soupmerge convert"),
    ],
)
def test_repositories_that_hold_something_else(
    site: Hub, soupmerge: Typed, files: dict[str, bytes | None], status: int, words: str
) -> None:
    site.add("me/net", {name: data for name, data in files.items() if data is not None})
    ended = soupmerge("pull", "hf-hub:me/net")
    assert ended.status == status, ended.err
    assert words in ended.err


def test_names_of_a_repository_never_become_paths(site: Hub, tmp_path: Path) -> None:
    hostile = {f"{'../' * 8}{tmp_path.name}/stolen.safetensors": weights(), "a\\b.pt": b"x"}
    site.add("me/net", {**hostile, "model.safetensors": weights()})
    opened("hf-hub:me/net")
    assert not list(tmp_path.rglob("stolen*"))


def test_a_pickle_is_read_as_data_and_said_to_be_one(site: Hub) -> None:
    state = sm.model(NET).state_dict()
    site.add("me/net", {"pytorch_model.bin": pickled({"state_dict": state}), "x.txt": b""})
    found = opened("hf-hub:me/net")
    assert all(torch.equal(found[n], t) for n, t in state.items())
    assert any("pickle" in note for note in found.notes)


def test_numbers_are_taken_out_of_a_pickle_that_names_code(
    site: Hub, soupmerge: Typed, tmp_path: Path
) -> None:
    state = sm.model(NET).state_dict()
    site.add("me/net", {"pytorch_model.bin": pickled({"state_dict": state, "args": Path("x")})})
    assert soupmerge("inspect", "hf-hub:me/net").status == 4
    out = tmp_path / "x.safetensors"
    assert soupmerge("convert", "hf-hub:me/net", "-o", out).status == 0
    assert all(torch.equal(sm.load(out)[0][n], t) for n, t in state.items())
    site.add("me/parts", sharded("m-1-of-2.safetensors", "m-2-of-2.safetensors"))
    refused = soupmerge("pull", "hf-hub:me/parts", "-o", tmp_path / "y.safetensors")
    assert refused.status == 2
    fix = refused.err.strip().rpartition("; ")[2].split()[1:]
    assert soupmerge(*fix).status == 0
    assert all(torch.equal(sm.load(fix[-1])[0][n], t) for n, t in state.items())


def test_a_copy_is_the_file_as_it_is(site: Hub, soupmerge: Typed, tmp_path: Path) -> None:
    site.add("me/net", {"sub/x.safetensors": weights()})
    out = tmp_path / "copy.safetensors"
    assert soupmerge("pull", "hf-hub:me/net:sub/x.safetensors", "-o", out).status == 0
    assert out.read_bytes() == weights()
    assert soupmerge("pull", "hf-hub:me/net:sub/x.safetensors", "-o", out).status == 5
    assert soupmerge("pull", "hf-hub:me/net", "-o", tmp_path / "x.pt").status == 3
    assert soupmerge("pull", "a", "-o", tmp_path / "x.pt").status == 2


def test_a_recipe_finds_its_ingredients_on_the_hub(
    site: Hub, soupmerge: Typed, tmp_path: Path
) -> None:
    for i, name in enumerate("ab"):
        site.add(f"me/{name}", {"model.safetensors": weights(i)})
    soup, again = tmp_path / "soup.safetensors", tmp_path / "again.safetensors"
    words = ["mix", "hf-hub:me/a", "hf-hub:me/b", "-w", "0.3,0.7", "-o", soup]
    assert soupmerge(*words, "-q").status == 0
    site.add("me/a", {"model.safetensors": weights(7)})
    soupmerge("pull", "hf-hub:me/a")
    assert soupmerge("mix", "--recipe", soup, "-o", again).status == 0
    assert again.read_bytes() == soup.read_bytes()
    tree = soupmerge("inspect", soup).out
    assert "hf-hub:me/a@" in tree


def test_progress_of_a_pull_is_in_megabytes_of_each_file(site: Hub) -> None:
    body = weights() + bytes(3_000_000)
    site.add("me/net", {"model.safetensors": body, "config.json": b"{}"})
    calls: list[tuple[str, int, int]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        calls.append((what, done, total))

    hub.pull(HubRef.parse("hf-hub:me/net"), progress=progress)
    megabytes = len(body) // 1_000_000
    assert {what for what, _, _ in calls} <= {"model.safetensors, MB", "config.json, MB"}
    assert [c for c in calls if c[0].startswith("model")][-1][1:] == (megabytes, megabytes)
    assert all(0 <= done <= total for _, done, total in calls)
