"""A journal survives a kill: a torn last line is dropped, and any other damage is named."""

from __future__ import annotations

import json
import os
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupmerge.errors import InputError, OutputError
from soupmerge.storage import journal
from soupmerge.storage.journal import Journal

texts = st.text(st.characters(codec="utf-8"))
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
records = st.dictionaries(texts.filter(lambda key: key != "crc"), scalars | texts | st.lists(texts))


def journal_of(path: Path, n: int) -> list[dict[str, Any]]:
    written = Journal(path)
    for i in range(n):
        written.append({"trial": i, "text": "é\n", "x": 0.1 + i})
    return list(written.records)


def sealed(text: str) -> str:
    """Return the JSON object *text* with its checksum, as the format has it."""
    comma = ", " if text != "{}" else ""
    return f'{text[:-1]}{comma}"crc": "{zlib.crc32(text.encode()):08x}"}}\n'


@given(st.lists(records, max_size=4))
def test_a_journal_reads_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, written: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("j") / "j.jsonl"
    for record in written:
        Journal(path).append(record)
    assert Journal(path).records == written
    assert journal.read(path) == written
    text = path.read_text(encoding="utf-8") if written else ""
    assert text == "".join(sealed(json.dumps(r, ensure_ascii=False)) for r in written)


def test_a_number_that_json_cannot_hold_is_not_written(tmp_path: Path) -> None:
    written = Journal(tmp_path / "j.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        written.append({"loss": float("nan")})
    assert written.records == []
    assert not written.path.exists()


def test_an_append_returns_when_it_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced after each record is in it, and its folder once it has appeared."""
    path, seen = tmp_path / "j.jsonl", []
    real = os.fsync

    def synced(handle: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
        seen.append((name, path.read_bytes().count(b"\n")))
        real(handle)

    monkeypatch.setattr(os, "fsync", synced)
    written = Journal(path)
    written.append({"trial": 0})
    assert seen == [("j.jsonl", 1), (tmp_path.name, 1)]
    written.append({"trial": 1})
    assert seen[2:] == [("j.jsonl", 2)]


def test_a_record_counts_once_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(handle: int) -> None:
        raise OSError(28, "No space left on device")

    written = Journal(tmp_path / "j.jsonl")
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OutputError, match=r"j\.jsonl: .*No space left"):
        written.append({"trial": 0})
    assert written.records == []


@pytest.mark.parametrize("lost", [1, 2, 20])
def test_a_torn_last_line_is_dropped_and_kept_aside(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "j.jsonl"
    written = journal_of(path, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    assert journal.read(path) == written[:2]
    assert path.read_bytes() == whole[:-lost]
    with pytest.warns(
        UserWarning, match=r"j\.jsonl: dropped an incomplete last line; j\.jsonl\.torn"
    ):
        assert Journal(path).records == written[:2]
    assert (tmp_path / "j.jsonl.torn").read_bytes() == whole[:-lost]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Journal(path)
    again.append(written[2])
    assert path.read_bytes() == whole
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="torn"):
        Journal(path)
    assert (tmp_path / "j.jsonl.torn").read_bytes() == whole[: len(whole) // 2]


def test_a_whole_last_line_that_is_damaged_is_a_torn_one(tmp_path: Path) -> None:
    """A disk may keep the end of what was written to it last, and not its beginning."""
    path = tmp_path / "j.jsonl"
    written = journal_of(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + bytes(10) + lines[2][10:])
    with pytest.warns(UserWarning, match="torn"):
        assert Journal(path).records == written[:2]
    assert path.read_bytes() == b"".join(lines[:2])


DAMAGE: dict[str, Callable[[list[bytes]], bytes]] = {
    "another number": lambda lines: lines[1].replace(b'"trial": 1', b'"trial": 7'),
    "another checksum": lambda lines: lines[1][:-3] + b"x" + lines[1][-2:],
    "no checksum": lambda lines: b'{"trial": 1}\n',
    "a checksum that is not last": lambda lines: b'{"crc": "00000000", "trial": 1}\n',
    "no JSON": lambda lines: b"{\n",
    "no UTF-8": lambda lines: b'{"\xff": 1}\n',
    "a list": lambda lines: b"[]\n",
    "a number": lambda lines: b"3\n",
    "nothing": lambda lines: b"\n",
    "brackets": lambda lines: b"[" * 200_000 + b"\n",
    "a space more": lambda lines: lines[1].replace(b'"trial": 1', b'"trial":  1'),
    "a key twice": lambda lines: sealed('{"trial": 1, "trial": 1}').encode(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("torn", [False, True])
def test_damage_before_the_last_line_is_named(
    tmp_path: Path, damage: Callable[[list[bytes]], bytes], torn: bool
) -> None:
    path = tmp_path / "j.jsonl"
    journal_of(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    last = lines[2][:-5] if torn else lines[2]
    path.write_bytes(lines[0] + damage(lines) + last)
    before = path.read_bytes()
    for read in (Journal, journal.read):
        with pytest.raises(InputError, match=r"j\.jsonl: line 2 is damaged; keep the first 1"):
            read(path)
    assert path.read_bytes() == before
    assert not (tmp_path / "j.jsonl.torn").exists()


def test_a_journal_that_is_missing_is_empty_and_is_not_made_by_reading(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "j.jsonl") == []
    assert Journal(tmp_path / "j.jsonl").records == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "j.jsonl").write_bytes(b"")
    assert Journal(tmp_path / "j.jsonl").records == []
    (tmp_path / "link").symlink_to("nowhere")
    for read in (Journal, journal.read):
        with pytest.raises(InputError, match="no such file"):
            read(tmp_path / "link")
