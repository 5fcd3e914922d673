"""A file that grows over several runs: what has come is known by its origin, and appears whole."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from soupmerge.errors import InputError, OutputError
from soupmerge.storage.partial import Partial

ORIGIN, TAG = "https://site/a", "etag-1"


@pytest.fixture
def part(tmp_path: Path) -> Partial:
    """Half a file, of which seven bytes have come."""
    made = Partial(tmp_path / "deep" / "a.pt")
    with made.locked():
        made.begin(ORIGIN, TAG)
        with made.appending() as append:
            assert append(b"1234") == 4
            assert append(b"567") == 3
    return made


def names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if not path.name.endswith(".lock"))


def test_what_has_come_goes_on_growing_and_appears_whole(part: Partial) -> None:
    home = part.target.parent
    assert names(home) == [".a.pt.part", ".a.pt.part.json"]
    again = Partial(part.target)
    assert again.received(ORIGIN) == (7, TAG)
    assert again.sha256() == hashlib.sha256(b"1234567").hexdigest()
    with again.appending() as append:
        append(b"89")
    again.finish()
    assert part.target.read_bytes() == b"123456789"
    assert names(home) == ["a.pt"]
    assert again.received(ORIGIN) == (0, "")


def test_every_chunk_is_on_disk_when_it_is_counted(part: Partial) -> None:
    with part.appending() as append:
        append(b"89")
        assert part.path.read_bytes() == b"123456789"


def test_a_finished_file_is_synced_and_replaces_the_old_one(
    part: Partial, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    sync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        sync(handle)

    def replaced(old: Path, new: Path) -> None:
        calls.append("replace")
        replace(old, new)

    part.target.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    part.finish()
    assert calls == [".a.pt.part", "replace", "deep"]
    assert part.target.read_bytes() == b"1234567"


def test_bytes_from_elsewhere_or_without_a_note_count_as_none(part: Partial) -> None:
    assert part.received("https://other/a") == (0, "")
    note = part.target.with_name(".a.pt.part.json")
    for text in ("{", "[]", "3", '{"origin": 3}', f'{{"origin": "{ORIGIN}"}}'):
        note.write_text(text)
        assert part.received(ORIGIN) == (0, "")
    note.write_text(f'{{"origin": "{ORIGIN}", "tag": ""}}')
    assert part.received(ORIGIN) == (0, "")
    note.unlink()
    assert part.received(ORIGIN) == (0, "")
    part.begin(ORIGIN, TAG)
    assert part.received(ORIGIN) == (0, "")


def test_to_begin_is_to_forget(part: Partial) -> None:
    part.begin("https://other/a", "etag-2")
    assert not part.path.exists()
    with part.appending() as append:
        append(b"x")
    assert part.received("https://other/a") == (1, "etag-2")
    assert part.received(ORIGIN) == (0, "")


def test_what_is_discarded_is_gone(part: Partial) -> None:
    part.target.write_bytes(b"old")
    for _ in range(2):
        part.discard()
        assert names(part.target.parent) == ["a.pt"]
    assert part.target.read_bytes() == b"old"
    with pytest.raises(InputError):
        part.sha256()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from soupmerge.storage.partial import Partial\n"
        "try:\n"
        "    with Partial(Path(sys.argv[1])).locked(): pass\n"
        "except Exception as error: print(error); sys.exit(error.exit_status)"
    )
    target = tmp_path / "a.pt"

    def another() -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", code, str(target)]
        return subprocess.run(words, capture_output=True, text=True)

    with Partial(target).locked():
        ended = another()
        assert ended.returncode == 5
        assert f"{target}: is being written by another process; wait" in ended.stdout
    assert another().returncode == 0


def test_a_disk_that_fails_is_an_output_error_that_names_the_target(
    part: Partial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"a\.pt: cannot be written: odd"), part.appending():
        raise OSError(5, "odd")
    monkeypatch.setattr(os, "fsync", fails)
    for call in (part.finish, lambda: part.begin(ORIGIN, TAG)):
        with pytest.raises(OutputError, match=r"a\.pt.*: cannot be written: No space left"):
            call()
    (part.target.parent / "file").write_text("x")
    stuck = Partial(part.target.parent / "file" / "a.pt")
    with pytest.raises(OutputError, match=r"file/a\.pt: cannot be written"), stuck.locked():
        pass
    with pytest.raises(OutputError, match="cannot be written"):
        stuck.discard()
