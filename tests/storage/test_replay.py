"""Replayed work: what a journal holds is read, the rest is computed, and the order is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from soupmerge.errors import InputError
from soupmerge.storage.journal import Journal
from soupmerge.storage.replay import Replay, require_same


class Work:
    """Squares of numbers; *made* lists those that were computed."""

    def __init__(self, path: Path | None) -> None:
        self.replay = Replay(Journal(path) if path else None)
        self.made: list[int] = []

    def square(self, number: int) -> int:
        def make() -> int:
            self.made.append(number)
            return number**2

        def write(value: int) -> dict[str, Any]:
            return {"number": number, "square": value}

        def read(record: dict[str, Any]) -> int:
            assert record["number"] == number
            return int(record["square"])

        return self.replay.piece(make, read=read, write=write)


@pytest.mark.parametrize("before", [0, 1, 3, 5])
def test_a_killed_run_goes_on_with_the_piece_that_is_missing(tmp_path: Path, before: int) -> None:
    path = tmp_path / "j.jsonl"
    first = Work(path)
    assert [first.square(i) for i in range(before)] == [i**2 for i in range(before)]
    assert first.made == list(range(before))
    again = Work(path)
    assert again.replay.known == before
    for i in range(5):
        assert again.replay.asked == i
        assert again.replay.is_known == (i < before)
        assert again.square(i) == i**2
    assert again.made == list(range(before, 5))
    assert Journal(path).records == [{"number": i, "square": i**2} for i in range(5)]


def test_a_piece_is_recorded_before_it_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    work = Work(path)
    work.square(3)
    assert Journal(path).records == [{"number": 3, "square": 9}]
    assert work.replay.known == 0, "known are those of the start"


def test_without_a_journal_everything_is_computed() -> None:
    work = Work(None)
    assert [work.square(2), work.square(2)] == [4, 4]
    assert work.made == [2, 2]
    assert (work.replay.asked, work.replay.known, work.replay.is_known) == (2, 0, False)
    work.replay.require_at_most(0, "squares")


def test_a_journal_has_no_more_records_than_there_are_pieces(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    for i in range(3):
        Journal(path).append({"number": i, "square": i**2})
    replay = Replay(Journal(path))
    replay.require_at_most(3, "squares")
    words = r"^j\.jsonl: holds 3 records for 2 squares; start over with --force$"
    with pytest.raises(InputError, match=words):
        replay.require_at_most(2, "squares")


def test_a_record_belongs_to_the_piece_that_it_names() -> None:
    data = {"ref": "digits", "sha256": "0"}
    record = {"soup": 1, "data": data, "report": 0.5}
    require_same(record, {"soup": 1, "data": {**data, "ref": "moved"}}, "soup", "j.jsonl")
    require_same(record, {}, "soup", "j.jsonl")
    for other in ({"soup": 2}, {"soup": 1, "data": {**data, "sha256": "1"}}, {"seed": 0}):
        words = r"^j\.jsonl: a record belongs to another soup; start over with --force$"
        with pytest.raises(InputError, match=words):
            require_same(record, other, "soup", "j.jsonl")
