"""A lock is held by one block at a time, and free after it, however it ends."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from soupmerge.errors import OutputError
from soupmerge.storage.locking import locked


class BusyError(Exception):
    pass


def test_a_lock_is_held_for_the_block_alone(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    for _ in range(2):
        with locked(path, busy=BusyError):
            began = time.monotonic()
            with pytest.raises(BusyError), locked(path, busy=BusyError):
                pass
            assert time.monotonic() - began < 5, "it does not wait"
    with pytest.raises(ZeroDivisionError), locked(path, busy=BusyError):
        raise ZeroDivisionError
    with locked(path, busy=BusyError):
        assert stat.S_IMODE(path.stat().st_mode) & ~0o644 == 0


def test_a_lock_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" / ".lock"
    with pytest.raises(OutputError, match="cannot be written"), locked(path, busy=BusyError):
        pass
