"""Files that are not to be trusted: regular, steady while they are read, and of one reading."""

from __future__ import annotations

import builtins
import hashlib
import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soupmerge.errors import InputError
from soupmerge.storage.reading import (
    MOST_BYTES,
    DuplicateKeyError,
    StableFile,
    parse_json,
    read_bytes,
    read_json,
    require_regular,
    unknown_keys,
)

CHUNK = 1 << 20
"""The most bytes in one chunk."""

# ---- files that stay as they were

CONTENT = bytes(range(256)) * 17


@pytest.fixture
def file(tmp_path: Path) -> StableFile:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    return StableFile.seen(tmp_path / "a.bin")


@given(start=st.integers(0, 5000), count=st.integers(-5, 5000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_of_a_file_are_its_bytes(file: StableFile, start: int, count: int) -> None:
    assert file.size == len(CONTENT)
    start = min(start, len(CONTENT))
    assert file.read(start, count) == CONTENT[start : start + max(count, 0)]


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_chunks_are_the_bytes_in_order(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "a").write_bytes(data)
    file = StableFile.seen(tmp_path / "a")
    parts = [bytes(part) for part in file.chunks()]
    assert b"".join(parts) == data
    assert all(0 < len(part) <= CHUNK for part in parts)
    assert file.sha256() == hashlib.sha256(data).hexdigest()
    start, count = size // 3, size // 2
    assert b"".join(map(bytes, file.chunks(start, count))) == data[start : start + count]
    assert b"".join(map(bytes, file.chunks(start))) == data[start:]


def test_a_read_beyond_the_end_says_how_much_is_missing(file: StableFile) -> None:
    for start, count, missing in ((0, 4353, 1), (4352, 10, 10), (9999, 3, 3)):
        with pytest.raises(InputError, match=rf"a\.bin: ends {missing} bytes too early; download"):
            file.read_into(start, memoryview(bytearray(count)))
    assert file.read(4352, 10) == b""


def test_a_short_read_is_gone_on_with(file: StableFile, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            return int(super().readinto(memoryview(buffer)[:7]) or 0)

    monkeypatch.setattr(builtins, "open", lambda handle, *args, **more: Slow(handle))
    assert file.read(3, 100) == CONTENT[3:103]


CHANGES: dict[str, Callable[[Path], object]] = {
    "other bytes": lambda path: path.write_bytes(bytes(len(CONTENT))),
    "cut": lambda path: path.write_bytes(CONTENT[:-1]),
    "longer": lambda path: path.write_bytes(CONTENT + b"more"),
    "touched": lambda path: os.utime(path, ns=(1, 1)),
    "another file of its size and time": lambda path: (
        path.rename(path.with_name("old")),
        path.write_bytes(CONTENT),
        os.utime(path, ns=(os.stat(path.with_name("old")).st_mtime_ns,) * 2),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_changes_is_refused_at_the_next_read(
    file: StableFile, change: Callable[[Path], object]
) -> None:
    change(file.path)
    for read in (lambda: file.read(0, 1), file.sha256, lambda: next(file.chunks())):
        with pytest.raises(InputError, match=r"a\.bin: has changed since it was first read; run"):
            read()


def test_a_file_that_goes_or_becomes_a_pipe_is_refused_without_a_wait(file: StableFile) -> None:
    file.path.unlink()
    with pytest.raises(InputError, match=r"a\.bin: cannot be read: No such file"):
        file.read(0, 1)
    os.mkfifo(file.path)
    with pytest.raises(InputError, match=r"a\.bin: is not a regular file; name a file"):
        file.read(0, 1)


def plant(home: Path) -> None:
    (home / "folder").mkdir()
    os.mkfifo(home / "pipe")
    (home / "loop").symlink_to("loop")
    (home / "to pipe").symlink_to("pipe")
    (home / "file").write_text("x")


REFUSED = [
    ("nowhere", "there is no such file; check the path"),
    ("folder", "is not a regular file; name a file"),
    ("pipe", "is not a regular file; name a file"),
    ("to pipe", "is not a regular file; name a file"),
    ("loop", "cannot be read: .*symbolic links; check its path"),
    ("file/deeper", "cannot be read: Not a directory; check its path"),
    ("x" * 300, "cannot be read: File name too long; check its path"),
    ("nul\0", "cannot be read: embedded null byte; check its path"),
]


@pytest.mark.parametrize(("name", "words"), REFUSED, ids=[row[0][:10] for row in REFUSED])
def test_what_is_no_regular_file_is_never_opened(tmp_path: Path, name: str, words: str) -> None:
    plant(tmp_path)
    for read in (StableFile.seen, require_regular, read_bytes, read_json):
        with pytest.raises(InputError, match=words):
            read(f"{tmp_path}/{name}")


def test_an_error_of_the_one_who_reads_is_let_through(file: StableFile) -> None:
    with pytest.raises(InputError, match=r"^mine$"), file.opened():
        raise InputError("mine")
    with pytest.raises(InputError, match=r"a\.bin: cannot be read: disk"), file.opened():
        raise OSError(5, "disk")
    with pytest.raises(KeyError), file.opened():
        raise KeyError


def test_a_text_file_beyond_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(
        InputError, match=r"a\.json: has 1,073,741,825 bytes, at most .*; choose another"
    ):
        read_bytes(tmp_path / "a.json")
    (tmp_path / "b").write_bytes(CONTENT)
    assert read_bytes(tmp_path / "b") == CONTENT
    assert MOST_BYTES == 2**30


# ---- JSON


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "cannot be read as JSON: Expecting"),
        (b"", "cannot be read as JSON: Expecting"),
        (b'"\xff"', "cannot be read as JSON: .*utf-8"),
        (b'{"a": 1, "a": 1}', "cannot be read as JSON: the key 'a' appears twice"),
        (b"[" * 200_000, "cannot be read as JSON: nested too deeply"),
        (b"1" * 5000, "cannot be read as JSON: .*digits"),
    ],
)
def test_what_is_no_json_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.json: {words}.*; write or download it again"):
        read_json(tmp_path / "a.json")


def test_json_is_read_as_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('{"ä": ["ß", 1]}'.encode())
    assert read_json(tmp_path / "a.json") == {"ä": ["ß", 1]}


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(values)
def test_a_value_is_read_as_it_was_written(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value


@given(st.text(), values, st.lists(st.sampled_from(["[{}]", '{{"a": {}}}', "[1, {}]"]), max_size=4))
def test_a_key_twice_is_refused_however_deep_it_stands(
    key: str, value: Any, around: list[str]
) -> None:
    name, text_of_value = json.dumps(key), json.dumps(value)
    text = f'{{{name}: {text_of_value}, "other {name[1:]}: 0, {name}: {text_of_value}}}'
    for frame in around:
        text = frame.format(text)
    with pytest.raises(DuplicateKeyError, match="appears twice"):
        parse_json(text)


def test_the_key_that_stands_twice_is_named() -> None:
    with pytest.raises(DuplicateKeyError, match="'b' appears twice"):
        parse_json('{"a": {"c": 1}, "b": {"c": 2}, "b": 3}')


def test_an_unknown_key_is_named_with_the_one_that_may_be_meant() -> None:
    known = ("format", "weights", "affine")
    assert unknown_keys(dict.fromkeys(known), known) == []
    first, second = unknown_keys({"wieghts": 0, "format": 0, "affien": 0}, known, "here: ")
    assert first.startswith("here: unknown key 'affien'")
    assert "did you mean 'affine'?" in first
    assert "did you mean 'weights'?" in second
