"""Peers that do not answer as they should are given up, and named: every site, by every client."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from soupmerge.errors import NetworkError
from soupmerge.sources import connections, downloads
from soupmerge.sources.refs import opened
from soupmerge.storage.partial import Partial
from tests.shared import Outcome
from tests.sources import peers
from tests.sources.file_server import DIGEST, Server, redirect, whole
from tests.sources.levels import NET, saved
from tests.sources.peers import Act, peer

Typed = Callable[..., Outcome]
ASKING = {
    "cifar10": "eval {net} --model {model} --data cifar10",
    "cifar100": "finetune --model resnet9?width=2 --threat clean --data cifar100 -o {out}",
    "rb": "inspect rb:cifar10/Linf/Standard",
    "pull": "pull hf-hub:me/net",
    "inspect": "inspect timm:resnet18",
    "push": "push {folder} hf-hub:me/net",
}
"""A command for each client of each site."""


@pytest.fixture
def typed(
    soupmerge: Typed,
    hub_at: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Typed:
    """Type a command that asks a site, with limits that a test can wait for."""
    monkeypatch.setattr(connections, "SILENCE", 0.3)
    monkeypatch.setattr(connections, "CONNECT", 0.3)
    monkeypatch.setattr(connections, "WORK", 0.3)
    monkeypatch.setattr(connections, "WINDOW", 0.5)
    monkeypatch.setenv("HF_TOKEN", "hf_secretOfTheseTests")
    monkeypatch.setattr(downloads, "TRIES", 2)
    hub_at("https://hub.invalid")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("README.md", "config.json"):
        (folder / name).write_text("{}")
    names = {"net": saved(folder / "model.safetensors"), "model": NET, "folder": folder}
    names["out"] = tmp_path / "out.safetensors"

    def type_(form: str) -> Outcome:
        return soupmerge(*form.format(**names).split())

    return type_


def certified(home: Path) -> ssl.SSLContext:
    """Return what a server needs to present a certificate that nobody trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, to make a certificate")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=nobody"
    files = ["-keyout", home / "key.pem", "-out", home / "certificate.pem"]
    subprocess.run(["openssl", *words.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(home / "certificate.pem", home / "key.pem")
    return context


PROXIES: dict[str, tuple[Act | None, str]] = {
    "silent": (peers.silent, "it does not answer in time through the proxy 127.0.0.1"),
    "a byte now and then": (peers.trickle(b"HTTP/1.1 200 OK\r\nX: "), "is too slow"),
    "hangs up": (peers.cut, "through the proxy 127.0.0.1"),
    "refuses": (peers.answer(b"HTTP/1.1 403 Forbidden\r\n\r\n"), "refuses (status 403)"),
    "is not there": (None, "the connection is refused through the proxy 127.0.0.1"),
    "leads to a silent site": (peers.trickle(peers.TUNNEL, 60), "it does not answer in time"),
    "leads to no TLS": (peers.answer(peers.TUNNEL + b"no hello\n" * 9), "no secure connection"),
}


@pytest.mark.parametrize("form", ASKING.values(), ids=ASKING)
@pytest.mark.parametrize("way", PROXIES)
def test_a_proxy_that_does_not_do_its_work_is_given_up_and_named(
    typed: Typed, form: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, words = PROXIES[way]
    with peer(act or peers.silent) as address:
        proxy = address if act else peers.closed_port()
        monkeypatch.setenv("https_proxy", f"http://user:secret@{proxy}")
        began = time.monotonic()
        ended = typed(form)
    assert ended.status == 6, ended.err
    assert words in ended.err
    assert "; " in ended.err  # and what to do
    assert "secret" not in ended.err
    assert [line.split(": ")[1] for line in ended.err.splitlines()][-1:] == ["error"]
    assert time.monotonic() - began < 60


def test_a_certificate_that_nobody_trusts_is_named(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with peer(peers.secured(certified(tmp_path))) as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy}")
        for form in (ASKING["pull"], ASKING["cifar10"]):
            ended = typed(form)
            assert (ended.status, "certificate is not trusted" in ended.err) == (6, True), ended.err
            assert "self-signed certificate" in ended.err


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (socket.EAI_NONAME, "there is no host "),
        (socket.EAI_AGAIN, "no name server answers for "),
    ],
)
def test_names_that_lead_nowhere_are_named(
    typed: Typed, number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*args: Any, **kwargs: Any) -> None:
        raise socket.gaierror(number, "no")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    ended = typed(ASKING["cifar10"])
    assert "warning: cifar10 is missing: downloading it" in ended.err
    assert (ended.status, f"{words}www.cs.toronto.edu" in ended.err) == (6, True), ended.err
    ended = typed(ASKING["pull"])
    assert (ended.status, f"{words}hub.invalid" in ended.err) == (6, True), ended.err
    monkeypatch.setenv("https_proxy", "http://user:secret@proxy.invalid:3128")
    ended = typed(ASKING["inspect"])
    assert (ended.status, f"{words}proxy.invalid:3128" in ended.err) == (6, True), ended.err
    monkeypatch.setenv("no_proxy", "hub.invalid")
    assert f"{words}hub.invalid" in typed(ASKING["inspect"]).err


HEAD = b'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: "one"\r\n\r\n'
SITES = {
    "before its answer": peers.trickle(b""),
    "in its headers": peers.trickle(HEAD[:30]),
    "in a body that seems right": peers.trickle(HEAD + b"PK\x03\x04" + bytes(600)),
}


@pytest.mark.parametrize("act", SITES.values(), ids=SITES)
def test_a_site_that_trickles_is_given_up_wherever_it_begins(
    typed: Typed, act: Act, hub_at: Callable[[str], None], tmp_path: Path
) -> None:
    with peer(act) as address:
        hub_at(f"http://{address}")
        for ask in (
            lambda: opened("hf-hub:me/net"),
            lambda: downloads.download(f"http://{address}/file", tmp_path / "net.pt"),
        ):
            with pytest.raises(NetworkError, match=r"is too slow: [\d,]+ bytes came in 1 seconds"):
                ask()


def test_what_a_trickle_brought_is_taken_up_again(typed: Typed, tmp_path: Path) -> None:
    words = "is too slow: .* run again to continue"
    act = SITES["in a body that seems right"]
    with peer(act) as address, pytest.raises(NetworkError, match=words):
        downloads.download(f"http://{address}/file", tmp_path / "net.pt")
    came, tag = Partial(tmp_path / "net.pt").received(f"http://{address}/file")
    assert (came >= 604, tag) == (True, '"one"')


def test_a_download_that_is_slow_and_steady_ends_well(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "WINDOW", 0.1)
    monkeypatch.setattr(connections, "SLOWEST", 100)
    body = b"PK\x03\x04" + bytes(4996)

    def steady(talk: socket.socket, over: threading.Event) -> None:
        peers.asked(talk)
        talk.sendall(HEAD.replace(b"1000000", b"5000"))
        for i in range(0, len(body), 100):  # some 5 kB a second, over several windows
            time.sleep(0.02)
            talk.sendall(body[i : i + 100])

    with peer(steady) as address:
        began = time.monotonic()
        downloads.download(f"http://{address}/file", tmp_path / "net.pt")
        assert time.monotonic() - began > 5 * connections.WINDOW
    assert (tmp_path / "net.pt").read_bytes() == body


def test_every_answer_may_take_its_time_to_begin(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "WINDOW", 0.1)

    def late(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.4)
        whole(handler)

    server.acts = [*redirect("/else"), late]
    assert downloads.download(server.address, tmp_path / "net.pt") == DIGEST


def test_limits_are_those_of_the_document() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
    said = page[page.index("## Limits") :].replace("\n", " ")
    numbers = "zero one two three four five six".split()  # noqa: SIM905
    limits = connections
    for words in (
        f"A connection must be made within {limits.CONNECT:.0f} seconds",
        f"An answer ends after {limits.SILENCE:.0f} seconds without a byte ({limits.WORK:.0f} sec",
        f"must bring {limits.SLOWEST // 1024} kB a second, averaged over {limits.WINDOW:.0f} sec",
        f"resumed where it broke off, {numbers[downloads.TRIES - 1]} times at most",
        f"Files of more than {downloads.MOST_BYTES >> 30} GiB",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("reads", "enough"),
    [
        # (seconds of waiting, bytes that came, seconds of work after); 10 bytes a second over 10
        ([(99, 1, 0), (10, 100, 0)], True),  # before the first byte there is another limit
        ([(0, 500, 0), (10, 99, 0)], False),
        ([(0, 1, 0), (9.9, 1, 0)], True),
        ([(0, 1, 0), (5, 100, 99), (5, 0, 99)], True),  # time for work is our own
        ([(0, 1, 0), (5, 1, 0), (6, 108, 0)], False),
        ([(0, 1, 0), (5, 1, 0), (6, 109, 0)], True),
        ([(0, 1, 0), (10, 9999, 0), (10, 99, 0)], False),  # a good beginning is no excuse
    ],
)
def test_a_pace_is_bytes_over_the_time_that_they_were_waited_for(
    reads: list[tuple[float, int, float]], enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(connections, "SLOWEST", 10)
    monkeypatch.setattr(connections, "WINDOW", 10.0)
    monkeypatch.setattr(connections.time, "monotonic", lambda: clock[0])
    for counted in (False, True):
        pace = connections.Pace("the site", "fix")

        def read_all(pace: connections.Pace = pace, counted: bool = counted) -> None:
            for seconds, count, work in reads:

                def read(seconds: float = seconds, count: int = count) -> bytes | int:
                    clock[0] += seconds
                    return count if counted else bytes(count)

                assert pace.timed(read) == (count if counted else bytes(count))
                clock[0] += work

        if enough:
            read_all()
        else:
            with pytest.raises(NetworkError, match="the site: is too slow: .*; fix"):
                read_all()
            pace.restart()
            assert pace.timed(lambda: b"") == b""
