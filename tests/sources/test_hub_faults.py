"""The Hub by its real client, against a stand-in with faults: one line, and nothing left."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soupmerge.errors import NetworkError
from soupmerge.sources.hub import client
from soupmerge.sources.hub.refs import HubRef
from soupmerge.sources.refs import opened
from tests.shared import Outcome
from tests.sources.hub_server import NET, TOKEN, Hub, Stall, blobs, weights
from tests.sources.peers import closed_port

Typed = Callable[..., Outcome]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's


FAULTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "wrong bytes of the right size": ({"wrong": True}, 4, "removed"),
    "half a body, again and again": ({"half": 10_000}, 6, "cannot be used"),
    "more than was announced": ({"longer": True}, 6, "sends more than"),
    "a redirect to a file": ({"location": "file:///etc/passwd"}, 6, "to file, which is refused"),
    "a redirect to another scheme": ({"location": "ftp://127.0.0.1/x"}, 6, "refused"),
    "redirects for ever": ({"location": "LOOP"}, 6, "more than 5 times"),
    "an etag that is a path": ({"etag": "../../../../../stolen"}, 4, "is not a safe file name"),
    "no commit": ({"info": {"id": "me/net", "sha": "main", "siblings": []}}, 6, "no commit"),
    "no answer of a Hub": ({"info": ["x"]}, 6, "cannot be used"),
    "a file that is gone": ({"gone": 404}, 6, "has no such file; check what follows the :"),
    "a file that cannot be had now": ({"gone": 503}, 6, "status 503; try again later"),
    **{
        f"status {status}": (
            {"status": status},
            6,
            f"or it is private and the token does not grant access (status {status}); check",
        )
        for status in (401, 403, 404)
    },
    **{
        f"status {status}": ({"status": status}, 6, f"answers with status {status}; check HF_END")
        for status in (400, 418)
    },
    **{
        f"status {status}": ({"status": status}, 6, f"answers with status {status}; try again")
        for status in (429, 500, 502, 503, 504)
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
    with pytest.raises(NetworkError, match="it does not answer in time"):
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


def test_the_client_is_left_as_it_was(site: Hub) -> None:
    import logging

    from huggingface_hub.utils import _http

    before = _http._GLOBAL_CLIENT_FACTORY, logging.getLogger("huggingface_hub").level
    with pytest.raises(NetworkError):
        opened("hf-hub:me/nothing")
    assert before == (_http._GLOBAL_CLIENT_FACTORY, logging.getLogger("huggingface_hub").level)


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
    found = {"HF_ENDPOINT": site.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return {**os.environ, **found, "HF_TOKEN": TOKEN}


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


def test_who_is_asked_is_named_without_a_password(
    hub_at: Callable[[str], None], soupmerge: Typed
) -> None:
    hub_at(f"http://user:secret@{closed_port()}")
    ended = soupmerge("pull", "hf-hub:me/net", "--debug")
    assert ended.status == 6
    assert "http://127.0.0.1:" in ended.err
    assert "secret" not in ended.err
    assert "the connection is refused" in ended.err


@pytest.mark.parametrize("hops", [5, 6])
def test_five_redirects_are_followed(site: Hub, hops: int) -> None:
    site.add("me/net", {"model.safetensors": weights()})
    digest = hashlib.sha256(weights()).hexdigest()
    # The first leads out of the repository, to where there are more.
    site.faults = {"location": f"{site.storage}/hops/{hops - 1}/{digest}"}
    if hops > 5:
        with pytest.raises(NetworkError, match="is redirected more than 5 times"):
            opened("hf-hub:me/net")
        return
    assert opened("hf-hub:me/net").files[0].read_bytes() == weights()


def test_an_answer_is_waited_for_as_long_as_the_user_says_and_ten_seconds_at_most(
    site: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    for said, waited in ((3, 3), (60, 10)):
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", said)
        assert client.seconds() == waited


LIMITS = {"connect": 10.0, "pool": 10.0, "read": 120.0, "write": 120.0}


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, LIMITS),
        ({"timeout": dict.fromkeys(LIMITS)}, LIMITS),
        ({"timeout": {"read": 3.0, "connect": 4.0}}, {**LIMITS, "read": 3.0, "connect": 4.0}),
    ],
)
def test_every_request_has_every_limit(given: dict[str, Any], limits: dict[str, float]) -> None:
    request = types.SimpleNamespace(extensions={**given, "sni_hostname": "x"})
    client._Watch("x")._limit(request)
    assert request.extensions["timeout"] == limits
    assert request.extensions["sni_hostname"] == "x"


def test_what_the_client_says_of_retries_is_kept_to_errors(
    site: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    site.faults = {"status": 503}
    with pytest.raises(NetworkError, match="the Hub answers with status 503; try again later"):
        opened("hf-hub:me/net")
    assert [r for r in caplog.records if r.name.startswith("huggingface_hub")] == []


def answered(status: int) -> Exception:
    """Return the client's error for an answer with *status* that says nothing else."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import _http

    http: Any = _http.httpx2
    request = http.Request("GET", "https://huggingface.co/api")
    return HfHubHTTPError("x", response=http.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (
            OSError(28, "No space left on device"),
            5,
            "to the cache: No space left",
        ),
        (
            PermissionError(13, "x"),
            5,
            "to the cache: Permission denied; make room",
        ),
        (ConnectionResetError(104, "reset"), 6, "the connection was cut"),
        (TimeoutError(110, "x"), 6, "it does not answer in time"),
        (ValueError("x"), 6, "the answer cannot be understood (ValueError); check the network"),
        (answered(401), 6, "or it is private and the token does not grant access (status 401)"),
        (answered(403), 6, "or it is private and the token does not grant access (status 403)"),
        (answered(404), 6, "or it is private and the token does not grant access (status 404)"),
        (answered(402), 6, "the Hub answers with status 402; check HF_ENDPOINT"),
        (answered(429), 6, "the Hub answers with status 429; try again later"),
        (answered(504), 6, "the Hub answers with status 504; try again later"),
        (answered(505), 6, "the Hub answers with status 505; check HF_ENDPOINT"),
    ],
)
def test_errors_of_the_client_become_ours(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, words: str
) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", "hf_x")
    found = client.explained(error, HubRef.parse("hf-hub:me/net"))
    assert (found.exit_status, words in str(found)) == (status, True), found
    where = constants.HF_HUB_CACHE if status == 5 else "hf-hub:me/net"
    assert str(found).startswith(f"{where}: ")


def test_a_program_s_own_client_keeps_its_hooks(site: Hub) -> None:
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    seen: list[str] = []
    hooks = {
        "request": [lambda request: seen.append(f"asks {request.method}")],
        "response": [lambda response: seen.append(f"gets {response.status_code}")],
    }
    before = _http._GLOBAL_CLIENT_FACTORY
    set_client_factory(lambda: _http.httpx2.Client(event_hooks=hooks, follow_redirects=True))
    try:
        site.add("me/net", {"model.safetensors": weights()})
        assert opened("hf-hub:me/net").model == NET
    finally:
        set_client_factory(before)
    assert "asks GET" in seen
    assert "gets 200" in seen
