"""The Hub by its real client, against a stand-in on this machine: faults, caches, tokens."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import InputError, NetworkError, SoupmergeError, UnsafeError, UsageError
from soupmerge.sources import hub, network
from soupmerge.sources.hub import client
from soupmerge.sources.hub.refs import HubRef
from soupmerge.sources.hub.timm_configs import written
from soupmerge.sources.refs import opened
from tests.shared import Outcome
from tests.sources.hub_server import Hub, Stall, serving

TOKEN = "hf_secretOfTheseTests"
NET = "digits-cnn?width=2"
Typed = Callable[..., Outcome]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The stand-in for the Hub; nothing else can be connected to."""
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _headers

    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> Any:
        assert address[0] == "127.0.0.1", f"a test reached for {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    with serving() as running:
        home = tmp_path / "hf home"
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": running.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(_headers, "detect_agent", lambda: None)
        monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield running


@pytest.fixture
def unplugged(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, no socket can be connected."""

    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"asked {address}")

    return lambda: monkeypatch.setattr(socket.socket, "connect", refuse)


def weights(seed: int = 0, model: str | None = NET) -> bytes:
    """Return a safetensors file that names its network."""
    import safetensors.torch

    notes = {"soupmerge": json.dumps({"model": model})} if model else None
    return safetensors.torch.save(sm.model(NET, seed=seed).state_dict(), notes)


def pickled(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def blobs(home: Path) -> set[str]:
    """Return the names of what someone could take from the caches in *home*."""
    found = [p for p in home.rglob("*") if p.is_file() and p.suffix != ".incomplete"]
    return {p.name for p in found if {"blobs", "snapshots"} & set(p.parts)}


# ---- written forms


@pytest.mark.parametrize(
    ("text", "repo", "revision", "file"),
    [
        ("hf-hub:a/b", "a/b", "main", None),
        ("hf-hub:a-1/b.c_d@v1.0", "a-1/b.c_d", "v1.0", None),
        ("hf-hub:a/b@refs/pr/3:sub/x.pt", "a/b", "refs/pr/3", "sub/x.pt"),
        ("hf-hub:a/b:x y.safetensors", "a/b", "main", "x y.safetensors"),
    ],
)
def test_references_read_as_they_are_written(
    text: str, repo: str, revision: str, file: str | None
) -> None:
    ref = HubRef.parse(text)
    assert (ref.repo, ref.revision, ref.file) == (repo, revision, file)
    assert str(ref) == text


@pytest.mark.parametrize(
    ("text", "status"),
    [
        *((f"hf-hub:{t}", 2) for t in ("", "a", "a/b/c", "a/", "a/b@", "a/b:", "../b", "a/..")),
        *((f"hf-hub:a/b:{t}", 4) for t in ("../x", "/etc/x", "x/../../y", "C:\\x", "a\\b", "x\0y")),
        ("hf-hub:a/b@../../x", 4),
        ("hf-hub:a/b@/x", 4),
        ("hf-hub:a/b:x/./y//z", 4),
    ],
)
def test_a_reference_that_leads_out_is_refused_unasked(site: Hub, text: str, status: int) -> None:
    with pytest.raises(SoupmergeError) as caught:
        opened(text)
    assert caught.value.exit_status == status
    assert repr(text)[1:-1].split(":")[0] in str(caught.value)
    assert not site.asked


# ---- pulling


def test_what_is_pulled_is_what_the_hub_has(site: Hub, unplugged: Callable[[], None]) -> None:
    commit = site.add("me/net", {"model.safetensors": weights()}, licence="mit")
    first = opened("hf-hub:me/net")
    assert first.ref == f"hf-hub:me/net@{commit}"
    assert first.model == NET
    assert first.notes_of_soupmerge["licence"] == "mit"
    assert first.files[0].read_bytes() == weights()
    assert all(a.token == f"Bearer {TOKEN}" for a in site.asked if a.host in site.url)
    elsewhere = [a for a in site.asked if a.host in site.storage]
    assert [a.token for a in elsewhere] == [None]  # the token is not for other hosts
    unplugged()
    assert opened("hf-hub:me/net").sha256 == first.sha256
    assert opened(first.ref).ref == first.ref
    with network.offline():
        assert opened("hf-hub:me/net").ref == first.ref


FAULTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "wrong bytes of the right size": ({"wrong": True}, 4, "removed"),
    "half a body, again and again": ({"half": 10_000}, 6, "does not answer as it should"),
    "more than was announced": ({"longer": True}, 6, "more came"),
    "a redirect to a file": ({"location": "file:///etc/passwd"}, 6, "to file, which is refused"),
    "a redirect to another scheme": ({"location": "ftp://127.0.0.1/x"}, 6, "refused"),
    "redirects for ever": ({"location": "LOOP"}, 6, "more than 5 times"),
    "an etag that is a path": ({"etag": "../../../../../stolen"}, 4, "no name of a file"),
    "no commit": ({"info": {"id": "me/net", "sha": "main", "siblings": []}}, 6, "no commit"),
    "no answer of a Hub": ({"info": ["x"]}, 6, "does not answer as it should"),
    **{
        f"status {status}": ({"status": status}, 6, f"{status}")
        for status in (400, 401, 403, 404, 418, 429, 500, 503)
    },
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_becomes_one_line_and_leaves_nothing(
    site: Hub, soupmerge: Typed, tmp_path: Path, name: str
) -> None:
    faults, status, words = FAULTS[name]
    site.add("me/net", {"model.safetensors": weights()})
    site.faults = {k: f"{site.storage}/loop/0" if v == "LOOP" else v for k, v in faults.items()}
    for command in ("pull", "inspect"):
        ended = soupmerge(command, "hf-hub:me/net", "--debug")
        assert ended.status == status, ended.err
        line = ended.err.splitlines()[-1]
        assert line.startswith("soupmerge: error: hf-hub:me/net: ")
        assert words in line
        assert "; " in line  # and what to do
    assert not blobs(tmp_path)
    site.faults = {}
    assert opened("hf-hub:me/net").files[0].read_bytes() == weights()


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("hf-hub:me/nothing", "no such repository, or it is private"),
        ("hf-hub:me/net@nowhere", "no such revision"),
        ("hf-hub:me/net:other.safetensors", "did you mean 'model.safetensors'"),
        ("hf-hub:me/gated", "accept its terms at http://127.0.0.1"),
    ],
)
def test_what_cannot_be_had_is_explained(site: Hub, soupmerge: Typed, ref: str, words: str) -> None:
    site.add("me/net", {"model.safetensors": weights()})
    site.add("me/gated", {"model.safetensors": weights()}, gated=True)
    ended = soupmerge("pull", ref)
    assert ended.status == 6
    assert words in ended.err
    assert ended.out == ""


def test_private_repositories_want_the_token(site: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("me/own", {"model.safetensors": weights()}, private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(NetworkError, match="private and no token was given"):
        opened("hf-hub:me/own")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert opened("hf-hub:me/own").model == NET


def test_a_connection_that_breaks_off_once_is_taken_up(site: Hub) -> None:
    site.add("me/net", {"model.safetensors": weights()})
    site.faults = {"half": 1}
    assert opened("hf-hub:me/net").files[0].read_bytes() == weights()


def test_a_site_that_breaks_off_for_ever_is_left(
    site: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 512)  # so that some of it does come
    site.add("me/net", {"model.safetensors": weights()})
    site.faults = {"half": 10_000}
    with pytest.raises(NetworkError, match="broke off 20 times"):
        opened("hf-hub:me/net")


def test_a_site_that_stalls_is_left(site: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    site.add("me/net", {"model.safetensors": weights()})
    site.faults = {"stall": Stall()}
    with pytest.raises(NetworkError, match="it stays silent"):
        opened("hf-hub:me/net")
    site.faults["stall"].over.set()


def test_no_redirect_leads_from_https_to_http() -> None:
    from huggingface_hub.utils import _http

    def handle(request: Any) -> Any:
        target = {"a": "http://b/", "c": "https://d/", "d": ""}[request.url.host]
        return http.Response(302 if target else 200, headers={"Location": target} if target else {})

    http: Any = _http.httpx2
    with http.Client(transport=http.MockTransport(handle), follow_redirects=True) as talk:
        client._Watch("x").put_on(talk)
        assert talk.get("https://c/").status_code == 200
        with pytest.raises(NetworkError, match="from https to http"):
            talk.get("https://a/")


def test_a_full_disk_is_no_fault_of_the_network() -> None:
    ref = HubRef.parse("hf-hub:me/net")
    full = client.explained(OSError(28, "No space left on device"), ref)
    assert (full.exit_status, "No space left" in str(full)) == (5, True)
    assert client.explained(ConnectionResetError(104, "reset"), ref).exit_status == 6


def test_the_client_is_left_as_it_was(site: Hub) -> None:
    import logging

    from huggingface_hub.utils import _http

    before = _http._GLOBAL_CLIENT_FACTORY, logging.getLogger("huggingface_hub").level
    with pytest.raises(NetworkError):
        opened("hf-hub:me/nothing")
    assert before == (_http._GLOBAL_CLIENT_FACTORY, logging.getLogger("huggingface_hub").level)


# ---- caches


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
    site: Hub, soupmerge: Typed, unplugged: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("me/net", {"model.safetensors": weights()})
    opened("hf-hub:me/net")
    unplugged()
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


def test_the_cache_of_another_program_serves_too(site: Hub, unplugged: Callable[[], None]) -> None:
    from huggingface_hub import constants, hf_hub_download

    site.add("me/net", {"model.safetensors": weights(), "config.json": b"{}"})
    where = {"cache_dir": constants.HF_HUB_CACHE, "endpoint": site.url}
    path = Path(hf_hub_download("me/net", "model.safetensors", **where))
    unplugged()
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


# ---- what repositories hold


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
        (sharded("a.safetensors", "../b.safetensors"), 4, "may lie out of its folder"),
        (sharded("a.safetensors", "b.bin"), 4, "no .safetensors file"),
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


# ---- timm


def config(**more: Any) -> dict[str, Any]:
    told = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1], "input_size": [3, 64, 64]}
    return {"architecture": "test_resnet", "num_classes": 7, "pretrained_cfg": told, **more}


def test_weights_of_timm_come_from_its_repository_with_their_normaliser(site: Hub) -> None:
    import safetensors.torch
    import timm

    theirs = timm.create_model("test_resnet", num_classes=7).eval()
    files = {
        "model.safetensors": safetensors.torch.save(theirs.state_dict()),
        "config.json": json.dumps(config()).encode(),
    }
    site.add("timm/test_resnet.r160_in1k", files)
    found = opened("timm:test_resnet.r160_in1k")
    assert opened("timm:test_resnet").ref == found.ref  # its default weights
    ours = sm.bind(sm.model(like=found), found)
    x = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(config()["pretrained_cfg"][k]).view(3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs((x - mean) / std))


def test_position_embeddings_have_the_size_that_the_config_says(site: Hub) -> None:
    import safetensors.torch
    import timm

    theirs = timm.create_model("test_vit", img_size=96, num_classes=7).eval()
    cfg = {**config()["pretrained_cfg"], "input_size": [3, 96, 96], "fixed_input_size": True}
    told = config(architecture="test_vit", pretrained_cfg=cfg)
    files = {"config.json": json.dumps(told).encode()}
    site.add("me/vit", files | {"model.safetensors": safetensors.torch.save(theirs.state_dict())})
    found = opened("hf-hub:me/vit")
    assert "img_size=96" in str(found.model)
    net = sm.bind(sm.model(like=found), found)
    assert net(torch.rand(1, 3, 96, 96)).shape == (1, 7)


@pytest.mark.parametrize(
    ("told", "form"),
    [
        (config(), "timm:test_resnet?mean=0.5,0.4,0.3&num_classes=7&std=0.2,0.2,0.1"),
        ({"architecture": "resnet18", "num_classes": 2}, "timm:resnet18?num_classes=2"),
        (
            {"architecture": "resnet18", "model_args": {"in_chans": 1, "global_pool": "max"}},
            "timm:resnet18?global_pool=max&in_chans=1",
        ),
        ({"architecture": "os:system"}, None),
        ({"architecture": "resnet18?checkpoint_path=x"}, None),
        (config(model_args={"checkpoint_path": "/etc/passwd"}), None),
        (config(model_args={"img_size": 10**9}), None),
        (config(model_args=[1]), None),
        (config(num_classes="7&checkpoint_path=x"), None),
        (config(pretrained_cfg=[1]), None),
        (config(pretrained_cfg={"mean": ["x"]}), None),
        (config(pretrained_cfg={"mean": [float("nan")]}), None),
    ],
)
def test_a_config_names_a_network_or_nothing(
    site: Hub, told: dict[str, Any], form: str | None
) -> None:
    if form:
        assert written(told) == form
    site.add(
        "me/net",
        {"model.safetensors": weights(model=None), "config.json": json.dumps(told).encode()},
    )
    found = opened("hf-hub:me/net")
    assert found.model == form
    assert any("--model" in note for note in found.notes) == (form is None)


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("timm:resnt18", "did you mean"),
        ("timm:resnet18.nope", "resnet18."),
        ("timm:resnet18?num_classes=3", "--model"),
    ],
)
def test_weights_that_timm_has_not(site: Hub, ref: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        opened(ref)


def test_weights_that_are_not_on_the_hub(site: Hub) -> None:
    from timm.models import get_pretrained_cfg, list_models

    name = next(n for n in list_models() if not get_pretrained_cfg(n).hf_hub_id)
    with pytest.raises(InputError, match="no weights for it on the Hub"):
        opened(f"timm:{name}")
    assert not site.asked


# ---- pushing


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
        ({"status": 403}, "status 403"),
        ({"status": 500}, "status 500"),
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


# ---- tokens, processes


def test_the_token_is_nowhere(
    site: Hub, soupmerge: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate("ab"):
        site.add(f"me/{name}", {"model.safetensors": weights(i)})
    judge = ["--data", "digits", "--limit", "4"]
    said = [
        soupmerge("pull", "hf-hub:me/a", "hf-hub:me/b", "--json"),
        soupmerge("mix", "hf-hub:me/a", "hf-hub:me/b", "-w", "uniform", "-o", "s.safetensors"),
        soupmerge("eval", "s.safetensors", "hf-hub:me/a", *judge, "-o", "run", "-v"),
        soupmerge("export", "s.safetensors", "-o", "out", "--judged", "run"),
        soupmerge("push", "out", "hf-hub:me/soup"),
    ]
    assert [ended.status for ended in said] == [0] * 5
    for status in (400, 401, 403, 404, 500):
        site.faults = {"status": status}
        said += [soupmerge("pull", "hf-hub:me/a", "--debug")]
        said += [soupmerge("push", "out", "hf-hub:me/soup", "--debug")]
    assert sum(f"Bearer {TOKEN}" == a.token for a in site.asked) > 10  # it was sent
    assert not any("hf_secret" in ended.out + ended.err for ended in said)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) > 15
    assert not any(b"hf_secret" in p.read_bytes() for p in files)


def environment(site: Hub, home: Path) -> dict[str, str]:
    told = {"HF_ENDPOINT": site.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return {**os.environ, **told, "HF_TOKEN": TOKEN}


def typed(*words: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "soupmerge", *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_a_killed_pull_is_begun_again_and_the_environment_is_heard(
    site: Hub, tmp_path: Path
) -> None:
    site.add("me/net", {"model.safetensors": weights()})
    stall = Stall()
    site.faults = {"stall": stall}
    env = environment(site, tmp_path / "elsewhere")
    command = [sys.executable, "-m", "soupmerge", "pull", "hf-hub:me/net"]
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as child:
        assert stall.reached.wait(60)
        child.kill()
    assert not blobs(tmp_path)
    site.faults = {}
    stall.over.set()
    ended = typed("pull", "hf-hub:me/net", env=env)
    assert (ended.returncode, TOKEN in ended.stdout + ended.stderr) == (0, False), ended.stderr
    assert blobs(tmp_path / "elsewhere")
    asked = len(site.asked)
    offline = typed("inspect", "hf-hub:me/net", env={**env, "HF_HUB_OFFLINE": "1"})
    assert (offline.returncode, len(site.asked)) == (0, asked), offline.stderr


def test_local_files_need_no_client_and_pulling_no_torch(tmp_path: Path) -> None:
    for i, name in enumerate("ab"):
        (tmp_path / f"{name}.safetensors").write_bytes(weights(i))
    code = (
        "import sys; from soupmerge.cli import main; words = sys.argv[1:]; "
        "assert main.run(['--help']) == main.run(words) == 0; "
        "import soupmerge.sources.hub, soupmerge.cli.pull; "
        "sys.exit(bool({'huggingface_hub', 'torch', 'timm'} & set(sys.modules)))"
    )
    words = ["mix", "a.safetensors", "b.safetensors", "-w", "0.5,0.5", "-o", "s.safetensors"]
    command = [sys.executable, "-c", code, *words]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert ended.returncode == 0, ended.stderr
