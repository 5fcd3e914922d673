"""The client that fetches files, against a server that does what servers do."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from soupmerge.errors import NetworkError, OutputError, UnsafeError
from soupmerge.sources import connections, downloads
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
    calls: list[int] = []
    found = download(server.address, target, progress=lambda what, n, of, note="": calls.append(n))
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
    with Partial(target).locked():
        Partial(target).begin(server.address, '"old"')
        with Partial(target).appending() as append:
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
    assert "Range" in server.asked[1]
    assert all("Range" not in asked for asked in server.asked[2:])  # it is begun anew


def test_without_a_tag_nothing_is_resumed(server: Server, target: Path) -> None:
    def untagged(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, BODY[:9000], declared=len(BODY), ETag='W/"weak"')

    server.acts = [untagged, whole]
    assert download(server.address, target) == DIGEST
    assert "Range" not in server.asked[1]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"no", "asks for a login"),
        (403, b"no", "not public"),
        (404, b"no", "has no such file;"),
        (410, b"no", "no longer has this file"),
        (400, b"no", "answers 400 Bad Request"),
        (418, b"no", "answers 418 I'm a"),
        (429, b"no", "too many requests"),
        (200, QUOTA, "a web page ('Google Drive - Quota exceeded')"),
        (200, b"\n  <html>please confirm</html>", "a web page, not a file of weights"),
        (200, b'{"error": "gone"}', "sent a JSON document, not a file of weights"),
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


def test_a_server_in_trouble_is_asked_again_and_not_for_ever(server: Server, target: Path) -> None:
    server.acts = [lambda handler: send(handler, 503), whole]
    assert download(server.address, target) == DIGEST
    target.unlink()
    server.acts = [lambda handler: send(handler, 500)]
    with pytest.raises(NetworkError, match="answers 500 Internal Server Error"):
        download(server.address, target)
    assert len(server.asked) == 2 + downloads.TRIES


def test_an_answer_without_a_length_is_whole_when_it_ends(server: Server, target: Path) -> None:
    def chunked(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for i in range(0, len(BODY), 300_000):
            part = BODY[i : i + 300_000]
            handler.wfile.write(b"%x\r\n" % len(part) + part + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    server.acts = [chunked]
    assert download(server.address, target) == DIGEST


def test_an_answer_without_a_length_that_breaks_off_is_not_whole(
    server: Server, target: Path
) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n" % len(BODY) + BODY[:9000])

    server.acts = [cut, whole]
    assert download(server.address, target) == DIGEST
    assert len(server.asked) == 2


def test_what_is_too_large_is_refused_by_its_length_or_when_it_does_not_end(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MOST_BYTES", len(BODY) - 1)
    server.acts = [whole]
    with pytest.raises(NetworkError, match=f"has {len(BODY):,} bytes, too many"):
        download(server.address, target)
    assert left(target) == []
    server.acts = [lambda handler: send(handler, 200, BODY, Content_Length="")]
    with pytest.raises(NetworkError, match="does not end"):
        download(server.address, target)
    assert len(server.asked) == 2
    monkeypatch.setattr(downloads, "MOST_BYTES", len(BODY))
    server.acts = [whole]
    assert download(server.address, target) == DIGEST


def test_progress_is_told_in_megabytes_of_the_whole(server: Server, target: Path) -> None:
    body = BODY * 4
    middle = len(BODY) * 2
    span = f"bytes {middle}-{len(body) - 1}/{len(body)}"
    server.acts = [
        lambda handler: send(handler, 200, body[:middle], declared=len(body), ETag='"one"'),
        lambda handler: send(handler, 206, body[middle:], ETag='"one"', Content_Range=span),
    ]
    calls: list[tuple[str, int, int]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        calls.append((what, done, total))

    download(server.address, target, progress=progress)
    assert {(what, of) for what, _, of in calls} == {("megabytes", 3)}
    counts = [n for _, n, _ in calls]
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}


def test_a_date_tells_versions_apart_where_no_tag_does(server: Server, target: Path) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    middle = len(BODY) // 2
    span = f"bytes {middle}-{len(BODY) - 1}/{len(BODY)}"
    server.acts = [
        lambda handler: send(handler, 200, BODY[:middle], declared=len(BODY), Last_Modified=date),
        lambda handler: send(handler, 206, BODY[middle:], Content_Range=span),  # no tag at all
    ]
    assert download(server.address, target) == DIGEST
    assert server.asked[1]["If-Range"] == date
    assert server.asked[0]["User-Agent"] == "soupmerge"
    assert server.asked[0]["Accept-Encoding"] == "identity"  # no bytes but the file's own


def test_a_page_that_comes_in_pieces_is_read_for_its_title(server: Server, target: Path) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, QUOTA[:20], declared=len(QUOTA))
        handler.wfile.flush()
        time.sleep(0.05)
        handler.wfile.write(QUOTA[20:])

    server.acts = [slow]
    with pytest.raises(NetworkError, match="Google Drive - Quota exceeded"):
        download(server.address, target)


def test_a_stalled_answer_is_given_up_and_taken_up(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SILENCE", 0.3)
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


@pytest.mark.parametrize("times", [1, 5, 6])
def test_five_redirects_are_followed(server: Server, target: Path, times: int) -> None:
    server.acts = [*redirect("/else", times=times), whole]
    if times > 5:
        with pytest.raises(NetworkError, match="redirects endlessly"):
            download(server.address, target)
        return
    assert download(server.address, target) == DIGEST
    assert [asked["path"] for asked in server.asked] == ["/file", *["/else"] * times]


def test_a_redirect_s_body_is_not_read(server: Server, target: Path) -> None:
    sent: list[int] = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 302, declared=1 << 40, Location="/else")
        with contextlib.suppress(OSError):  # until nobody listens
            for i in range(500):
                handler.wfile.write(bytes(1 << 16))
                sent.append(i)

    server.acts = [endless, whole]
    assert download(server.address, target) == DIGEST
    assert len(sent) < 500


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("http://example.org/file", "not https"),
        ("file:///etc/passwd", "not https"),
        ("ftp://example.org/file", "not https"),
        ("/file", "redirects endlessly"),
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


@pytest.mark.parametrize(
    ("place", "origin", "lawful"),
    [
        ("https://a/x", "https://b/y", True),
        ("https://a/x", "http://127.0.0.1/y", True),
        ("http://127.0.0.1:9/x", "http://localhost/y", True),
        ("http://[::1]/x", "http://127.0.0.1/y", True),
        ("http://127.0.0.1/admin", "https://example.org/file", False),
        ("http://example.org/x", "http://127.0.0.1/y", False),
        ("http://127.0.0.1.example.org/x", "http://127.0.0.1/y", False),
        ("ftp://127.0.0.1/x", "http://127.0.0.1/y", False),
    ],
)
def test_only_the_machine_itself_may_be_asked_without_tls(
    place: str, origin: str, lawful: bool
) -> None:
    if lawful:
        downloads._require_https(place, origin)
        return
    with pytest.raises(NetworkError, match="which is not https; take the file from elsewhere"):
        downloads._require_https(place, origin)


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
    with Partial(target).locked(), pytest.raises(OutputError, match="is being written"):
        download(server.address, target)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "zoo").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        download(server.address, tmp_path / "zoo" / "net.pt")
