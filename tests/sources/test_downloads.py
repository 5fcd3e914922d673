"""The client that fetches files, against a server that does what servers do."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from soupmerge.errors import NetworkError, OutputError, UnsafeError
from soupmerge.sources import downloads, network
from soupmerge.sources.downloads import download
from soupmerge.storage.partial import Partial
from tests.sources.file_server import (
    BODY,
    DIGEST,
    QUOTA,
    Server,
    half,
    redirect,
    rest,
    send,
    stall,
    whole,
)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "zoo" / "net.pt"


def left(target: Path) -> list[str]:
    return sorted(f.name for f in target.parent.iterdir() if not f.name.endswith(".lock"))


def test_a_whole_file_comes_whole(server: Server, target: Path) -> None:
    server.acts = [whole]
    told: list[int] = []
    found = download(server.address, target, progress=lambda what, n, of, note="": told.append(n))
    assert found == DIGEST
    assert target.read_bytes() == BODY
    assert left(target) == ["net.pt"]
    assert download(server.address, target) == DIGEST  # it is there: nothing is asked
    assert len(server.asked) == 1


def test_what_broke_off_is_taken_up(server: Server, target: Path) -> None:
    server.acts = [half, rest]
    assert download(server.address, target) == DIGEST
    assert server.asked[1]["Range"] == f"bytes={len(BODY) // 2}-"
    assert server.asked[1]["If-Range"] == '"one"'
    assert left(target) == ["net.pt"]


def test_a_later_run_takes_it_up(server: Server, target: Path) -> None:
    server.acts = [half, lambda handler: send(handler, 404)]
    with pytest.raises(NetworkError, match="has no such file"):
        download(server.address, target)
    assert left(target) == [".net.pt.part", ".net.pt.part.json"]
    server.acts = [rest]
    assert download(server.address, target) == DIGEST
    assert server.asked[-1]["Range"] == f"bytes={len(BODY) // 2}-"


def test_part_of_another_file_is_not_continued(server: Server, target: Path) -> None:
    with Partial(target).held():
        Partial(target).begin(server.address, '"old"')
        with Partial(target).growing() as append:
            append(b"other bytes")
    server.acts = [rest]
    assert download(server.address, target) == DIGEST


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"ETag": '"one"'}),  # Range ignored
        (206, {"ETag": '"two"', "Content_Range": f"bytes 500-999/{len(BODY)}"}),  # If-Range ignored
        (206, {"ETag": '"one"', "Content_Range": f"bytes 3-999/{len(BODY)}"}),  # another range
        (416, {}),
    ],
)
def test_servers_that_do_not_know_ranges(
    server: Server, target: Path, status: int, headers: dict[str, str]
) -> None:
    body = BODY if status == 200 else BODY[500:1000] if status == 206 else b""
    server.acts = [half, lambda handler: send(handler, status, body, **headers), whole]
    assert download(server.address, target) == DIGEST


def test_without_a_tag_nothing_is_resumed(server: Server, target: Path) -> None:
    def untagged(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, BODY[:9000], declared=len(BODY), ETag='W/"weak"')

    server.acts = [untagged, whole]
    assert download(server.address, target) == DIGEST
    assert "Range" not in server.asked[1]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"no", "has no such file"),
        (403, b"no", "not public"),
        (429, b"no", "too many requests"),
        (200, QUOTA, "a web page ('Google Drive - Quota exceeded')"),
        (200, b"\n  <html>please confirm</html>", "a web page, not a file of weights"),
        (200, b'{"error": "gone"}', "what begins with"),
        (200, b"", "not a file of weights"),
    ],
)
def test_answers_that_are_no_model(
    server: Server, target: Path, status: int, body: bytes, said: str
) -> None:
    server.acts = [lambda handler: send(handler, status, body)]
    with pytest.raises(NetworkError) as error:
        download(server.address, target)
    assert said in str(error.value)
    assert f"in a browser and put the file at {target}" in str(error.value)
    assert left(target) == []
    assert len(server.asked) == 1


def test_an_answer_that_never_gets_whole(server: Server, target: Path) -> None:
    server.acts = [half]
    with pytest.raises(NetworkError, match=r"broke off|ended after"):
        download(server.address, target)
    assert not target.exists()
    assert len(server.asked) == downloads.TRIES


def test_a_server_in_trouble_is_asked_again(server: Server, target: Path) -> None:
    server.acts = [lambda handler: send(handler, 503), whole]
    assert download(server.address, target) == DIGEST


def test_a_stalled_answer_is_given_up_and_taken_up(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "SILENCE", 0.3)
    server.acts = [stall, rest]
    assert download(server.address, target) == DIGEST
    assert server.asked[1]["Range"] == "bytes=1000-"


def test_what_a_killed_process_got_is_not_fetched_again(server: Server, target: Path) -> None:
    killed = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, BODY[:1000], declared=len(BODY), ETag='"one"')
        handler.wfile.flush()
        killed.wait(60)

    server.acts = [hang]
    code = (
        "from pathlib import Path; from soupmerge.sources.downloads import download\n"
        f"download({server.address!r}, Path({str(target)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    part = Partial(target).path
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    killed.set()
    assert not target.exists()
    server.acts = [rest]
    assert download(server.address, target) == DIGEST
    assert server.asked[-1]["Range"] == "bytes=1000-"
    assert left(target) == ["net.pt"]


def test_redirects_are_followed(server: Server, target: Path) -> None:
    server.acts = [*redirect("/else", times=3), whole]
    assert download(server.address, target) == DIGEST
    assert [asked["path"] for asked in server.asked] == ["/file", "/else", "/else", "/else"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("http://example.org/file", "not https"),
        ("file:///etc/passwd", "no https"),
        ("ftp://example.org/file", "not https"),
        ("/file", "redirects without end"),
    ],
)
def test_redirects_that_are_not(server: Server, target: Path, place: str, said: str) -> None:
    server.acts = redirect(place)
    with pytest.raises(NetworkError, match=said):
        download(server.address, target)
    assert len(server.asked) <= 6
    assert left(target) == []


@pytest.mark.parametrize("address", ["http://example.org/a", "file:///etc/passwd", "a", "ftp://x/"])
def test_addresses_that_are_not_https(target: Path, address: str) -> None:
    with pytest.raises(NetworkError, match="not https"):
        download(address, target)


def test_a_site_that_redirects_home_is_not_followed() -> None:
    with pytest.raises(NetworkError, match="not https"):
        downloads._require_lawful("http://127.0.0.1/admin", "https://example.org/file")


def test_another_file_than_expected_is_not_kept(server: Server, target: Path) -> None:
    server.acts = [whole]
    with pytest.raises(UnsafeError, match=f"sha256 {DIGEST}, expected 1234"):
        download(server.address, target, sha256="1234")
    assert left(target) == []
    assert download(server.address, target, sha256=DIGEST[:8]) == DIGEST


def test_nobody_there(target: Path) -> None:
    with pytest.raises(NetworkError, match="cannot be reached: the connection is refused;"):
        download("http://127.0.0.1:9/file", target)


def test_offline_opens_no_connection(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkError, match="no site may be asked"):
        download(server.address, target)
    assert server.asked == []


def test_one_process_at_a_time(server: Server, target: Path) -> None:
    server.acts = [whole]
    with Partial(target).held(), pytest.raises(OutputError, match="is being written"):
        download(server.address, target)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "zoo").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        download(server.address, tmp_path / "zoo" / "net.pt")
