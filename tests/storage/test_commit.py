"""A file or folder appears whole or not at all, is synced, and replaces only what it may."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soupmerge.errors import OutputError, UsageError
from soupmerge.storage import commit


def fail(*args: object, **more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# ---- files


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_appears_whole_and_with_the_mode_of_the_umask(tmp_path: Path, mask: int) -> None:
    target, before = tmp_path / "a", os.umask(mask)
    try:
        with commit.committed(target) as file:
            file.write(b"new")
            assert not target.exists()
    finally:
        os.umask(before)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError(5, "broken")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: Any) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    expected = OutputError if isinstance(error, OSError) else error

    def half() -> None:
        with commit.committed(target, force=True) as file:
            file.write(b"half")
            raise error

    with pytest.raises(expected):
        half()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
def test_a_failing_disk_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    monkeypatch.setattr(call, fail)
    with pytest.raises(OutputError, match=r"/a: .*No space left.*; check its folder"):
        commit.write_text(target, "new", force=True)
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the calls that make a file last, in order."""
    calls: list[str] = []
    handles: dict[int, str] = {}

    def watched(name: str, expected: Callable[..., str]) -> None:
        real = getattr(os, name)

        def call(*args: Any, **more: Any) -> Any:
            found = real(*args, **more)
            if name == "open":
                handles[found] = os.path.basename(args[0])
            else:
                calls.append(f"{name} {expected(*args)}")
            return found

        monkeypatch.setattr(os, name, call)

    watched("open", lambda path, *more: "")
    watched("fsync", lambda handle: handles.get(handle, "?"))
    for name in ("replace", "rename"):
        watched(name, lambda old, new: f"{os.path.basename(old)} {os.path.basename(new)}")
    return calls


def test_a_file_is_synced_before_it_is_seen_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, draft = noted(monkeypatch), f".a.{os.getpid()}.tmp"
    commit.write_text(tmp_path / "a", "new")
    assert calls == [f"fsync {draft}", f"replace {draft} a", f"fsync {tmp_path.name}"]


def test_a_folder_is_synced_before_it_is_seen_and_its_parent_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, draft = noted(monkeypatch), f".a.{os.getpid()}.tmp"
    with commit.committed_folder(tmp_path / "a") as folder:
        assert folder.name == draft
        (folder / "inside").write_text("x")
        assert not (tmp_path / "a").exists()
    assert calls == [f"fsync {draft}", f"rename {draft} a", f"fsync {tmp_path.name}"]
    assert (tmp_path / "a" / "inside").read_text() == "x"


@pytest.mark.parametrize("error", [RuntimeError, OSError(5, "broken")])
def test_a_failure_leaves_no_folder(tmp_path: Path, error: Any) -> None:
    def half() -> None:
        with commit.committed_folder(tmp_path / "a") as folder:
            (folder / "inside").write_text("x")
            raise error

    with pytest.raises(OutputError if isinstance(error, OSError) else error):
        half()
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "there" / "real")
    commit.write_text(tmp_path / "link", "new", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "real").read_text() == "new"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["link", "real", "there"]


def test_no_handle_is_left_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    commit.write_text(tmp_path / "a", "new")
    commit.require_room(tmp_path / "a", 0)
    with commit.committed_folder(tmp_path / "b"):
        pass
    assert os.listdir("/proc/self/fd") == before


def test_json_is_one_text_for_one_value(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "ä"}
    commit.write_json(tmp_path / "a", value)
    text = (tmp_path / "a").read_bytes()
    assert json.loads(text) == value
    assert text.decode() == json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    with pytest.raises(ValueError, match="not JSON compliant"):
        commit.write_json(tmp_path / "b", float("nan"))
    assert not (tmp_path / "b").exists()
    with pytest.raises(OutputError, match="already exists"):
        commit.write_json(tmp_path / "a", value)
    commit.write_json(tmp_path / "a", 1, force=True)
    assert (tmp_path / "a").read_text() == "1\n"


# ---- drafts that were left behind


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    words = [sys.executable, "-c", "import os; print(os.getpid())"]
    return int(subprocess.run(words, capture_output=True).stdout)


@pytest.mark.parametrize("name", ["a", "[a]*?.x", "a.b.c"])
def test_a_dead_writer_s_draft_is_swept(tmp_path: Path, dead: int, name: str) -> None:
    drafts = [tmp_path / f".{name}.{pid}.tmp" for pid in (dead, 2**40)]
    drafts[0].write_text("half")
    drafts[1].mkdir()
    (drafts[1] / "inside").write_text("half")
    other = tmp_path / f".other.{dead}.tmp"
    other.write_text("not of this file")
    commit.write_text(tmp_path / name, "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, other.name])
    drafts[0].write_text("half")
    folder = tmp_path / f".folder.{dead}.tmp"
    folder.mkdir()
    with commit.committed_folder(tmp_path / "folder"):
        assert not folder.exists()
    assert drafts[0].exists()
    commit.require_room(tmp_path / name, 0)
    assert not drafts[0].exists()


@pytest.mark.parametrize("pid", ["²", "٣", "-1", "x", "", f"{os.getppid()}", "1"])
def test_what_is_no_dead_writer_s_draft_stays(tmp_path: Path, pid: str) -> None:
    other = tmp_path / f".a.{pid}.tmp"
    other.write_text("not ours")
    commit.write_text(tmp_path / "a", "new")
    assert other.read_text() == "not ours"


def test_a_writer_that_may_not_be_asked_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: int
) -> None:
    def forbidden(pid: int, signal: int) -> None:
        raise PermissionError

    (tmp_path / f".a.{dead}.tmp").write_text("half")
    monkeypatch.setattr(os, "kill", forbidden)
    commit.write_text(tmp_path / "a", "new")
    assert (tmp_path / f".a.{dead}.tmp").exists()


# ---- what cannot be written


def plant(home: Path) -> None:
    (home / "file").write_text("precious")
    (home / "folder").mkdir()
    (home / "loop").symlink_to("loop")
    (home / "to file").symlink_to("file")
    (home / "dangling").symlink_to("not there")
    (home / "astray").symlink_to("nowhere/there")
    os.mkfifo(home / "pipe")


REFUSED = [
    ("file", "already exists", "--force"),
    ("to file", "already exists", "--force"),
    ("folder", "is a folder", "name a file in it"),
    ("pipe", "is not a regular file", "choose another -o"),
    ("loop", "link to itself|symbolic links", "; "),
    ("nowhere/a", "there is no folder .*nowhere", "create it first"),
    ("astray", "there is no folder .*nowhere", "create it first"),
    ("file/a", "there is no folder|Not a directory", "; "),
    ("x" * 300, "name too long", "; "),
]


@pytest.mark.parametrize(("name", "words", "fix"), REFUSED, ids=[row[0][:20] for row in REFUSED])
def test_an_output_that_cannot_be_meant_is_refused(
    tmp_path: Path, name: str, words: str, fix: str
) -> None:
    plant(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    writers: list[Callable[[], object]] = [
        lambda: commit.check_free(tmp_path / name),
        lambda: commit.write_text(tmp_path / name, "new"),
    ]
    if fix != "--force":
        writers.append(lambda: commit.check_free(tmp_path / name, force=True))
    for write in writers:
        with pytest.raises(OutputError, match=rf"(?i){words}") as caught:
            write()
        assert str(tmp_path / name) in str(caught.value)
        assert fix in str(caught.value)
    assert (tmp_path / "file").read_text() == "precious"
    assert sorted(tmp_path.rglob("*")) == before


def test_force_replaces_a_file_and_a_link_to_nothing_is_free(tmp_path: Path) -> None:
    plant(tmp_path)
    commit.check_free(tmp_path / "file", force=True)
    commit.check_free(tmp_path / "dangling")
    commit.write_text(tmp_path / "dangling", "new")
    assert (tmp_path / "not there").read_text() == "new"


@pytest.mark.parametrize("name", ["file", "folder", "dangling", "to file", "loop"])
def test_a_folder_never_replaces_anything(tmp_path: Path, name: str) -> None:
    plant(tmp_path)

    def make() -> None:
        with commit.committed_folder(tmp_path / name):
            pass

    for refuse in (lambda: commit.check_free_folder(tmp_path / name), make):
        with pytest.raises(OutputError, match="already exists; .*never replaced"):
            refuse()


def test_a_read_only_folder_is_named_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    for check in (commit.check_free, commit.check_free_folder):
        with pytest.raises(OutputError, match=f"the folder {tmp_path} is read-only"):
            check(tmp_path / "a")


def test_an_output_is_no_input_through_whatever_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    os.link(tmp_path / "a", tmp_path / "hard")
    (tmp_path / "soft").symlink_to(tmp_path / "a")
    (tmp_path / "b").write_text("x")
    inputs = [tmp_path / "gone", tmp_path / "b", tmp_path / "a"]
    for alias in ("a", "hard", "soft"):
        with pytest.raises(UsageError, match=rf"/{alias}: the output is also an input"):
            commit.check_free(tmp_path / alias, force=True, inputs=inputs)
    for other in ("c", "b"):
        commit.check_not_input(tmp_path / other, [tmp_path / "gone", tmp_path / "a"])
    commit.check_free(tmp_path / "b", force=True, inputs=[tmp_path / "a"])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(13, "Permission denied"), r"/a: cannot be written: Permission denied; check"),
        (OSError("odd"), r"/a: cannot be written: odd; check"),
        (OutputError("is odd", where="b"), r"^b: is odd$"),
    ],
)
def test_what_the_system_says_names_the_place(tmp_path: Path, error: OSError, words: str) -> None:
    with pytest.raises(OutputError, match=words), commit.writing(tmp_path / "a"):
        raise error


# ---- room


@pytest.mark.parametrize("kind", ["file", "folder", "early"])
def test_room_is_looked_for_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def write(needed: int) -> None:
        if kind == "early":
            commit.require_room(tmp_path / "a", needed)
        elif kind == "file":
            with commit.committed(tmp_path / "a", room=needed) as file:
                file.write(b"x")
        else:
            with commit.committed_folder(tmp_path / "a", room=needed):
                pass

    asked = []

    def usage(path: Any) -> Any:
        asked.append(Path(path))
        return shutil._ntuple_diskusage(9, 9, 1234)  # type: ignore[attr-defined]

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(
        OutputError, match=r"/a: needs 1,235 bytes, but only 1,234 are free there; free"
    ):
        write(1235)
    assert list(tmp_path.iterdir()) == []
    assert asked[-1] == tmp_path
    write(1234)
    assert (tmp_path / "a").exists() == (kind != "early")
    assert sorted(p.name for p in tmp_path.iterdir()) in ([], ["a"])


def test_a_place_that_cannot_be_written_is_found_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OutputError, match=r"/a: .*No space left"):
        commit.require_room(tmp_path / "a", 0)
    monkeypatch.undo()
    with pytest.raises(OutputError, match="nowhere"):
        commit.require_room(tmp_path / "nowhere" / "a", 0)
