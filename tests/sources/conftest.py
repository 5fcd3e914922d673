"""A network without the outside: the environment's own proxies and caches do not count."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from soupmerge.sources import cache, connections
from soupmerge.sources.robustbench import files
from tests.sources.file_server import Server, serving
from tests.sources.hub_server import TOKEN, Hub
from tests.sources.hub_server import serving as standing_in

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No proxy, no variable that says offline, and empty caches, in the folder that is returned."""
    for name in (*PROXIES, *map(str.upper, PROXIES), *connections.VARIABLES, files.MODELS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(cache.HOME, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def server(alone: Path) -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def hub_at(alone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Let the Hub's client ask at an address, with a cache and a token of its own."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _headers

    def set_to(address: str) -> None:
        home = tmp_path / "hf home"
        for name, value in {
            "ENDPOINT": address,
            "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_OFFLINE": False,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(_headers, "detect_agent", lambda: None)

    return set_to


@pytest.fixture
def unplug(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """Once it is called, whoever asks a name server or connects is refused, and noted in a list."""

    def pull_the_plug() -> list[Any]:
        touched: list[Any] = []

        def refuse(*asked: Any, **more: Any) -> None:
            touched.append(asked)
            raise OSError("unplugged")

        for name in ("getaddrinfo", "gethostbyname", "create_connection"):
            monkeypatch.setattr(socket, name, refuse)
        for name in ("connect", "connect_ex", "sendto"):
            monkeypatch.setattr(socket.socket, name, refuse)
        return touched

    return pull_the_plug


@pytest.fixture
def site(hub_at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in for the Hub; nothing else can be connected to."""
    from huggingface_hub import file_download

    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> Any:
        assert address[0] == "127.0.0.1", f"a test reached for {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with standing_in() as running:
        hub_at(running.url)
        yield running
