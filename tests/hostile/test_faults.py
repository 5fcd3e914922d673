"""A disk that fails at every call in turn: the old output stays, and the same command mends it."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.commands import FEW, network
from tests.hostile.disk import Disk, drafts, files, whole
from tests.hostile.rows import save

Typed = Callable[..., Any]
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EROFS)


def counted(
    home: Path, soupmerge: Typed, line: list[Any], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Type *line*, and return the calls it makes that write under *home*."""
    with monkeypatch.context() as patch:
        disk = Disk(home, patch.setattr)
        assert soupmerge(*line).status == 0
    return disk.calls


def failed(
    home: Path,
    soupmerge: Typed,
    line: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: int,
) -> Any:
    """Type *line* with a disk whose call *number* fails with *error*; return how it ended."""

    def fails(place: str) -> None:
        raise OSError(error, os.strerror(error), place)

    with monkeypatch.context() as patch:
        Disk(home, patch.setattr, number, fails)
        return soupmerge(*line)


def failures(calls: list[str]) -> Iterator[tuple[int, int]]:
    """Yield the number of each call, and an error for it."""
    return zip(range(1, len(calls) + 1), cycle(ERRORS), strict=False)


def ingredients(home: Path) -> list[Path]:
    return [save(home / f"{name}.safetensors", seed=seed) for seed, name in enumerate("ab")]


def test_a_soup_is_old_or_new_whatever_call_fails(
    tmp_path: Path, soupmerge: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    out = home / "out.safetensors"
    line = ["mix", *ingredients(tmp_path), "-w", "uniform", "-o", out, "--force"]
    calls = counted(home, soupmerge, line, monkeypatch)
    new, old = out.read_bytes(), b"an earlier soup"
    kinds = [call.split()[0] for call in calls]
    assert {"open", "write", "fsync", "replace"} == set(kinds)
    # Synced before it is seen, and the folder after.
    assert kinds[-3:] == ["fsync", "replace", "fsync"]
    for number, error in failures(calls):
        out.write_bytes(old)
        ended = failed(home, soupmerge, line, monkeypatch, number, error)
        assert ended.status == 5, (calls[number - 1], ended.err)
        assert os.strerror(error) in ended.err
        assert "out.safetensors" in ended.err
        done = "replace" in kinds[: number - 1]
        assert out.read_bytes() == (new if done else old)
        assert drafts(home) == []
        assert soupmerge(*line).status == 0
        assert out.read_bytes() == new


def test_a_folder_of_shards_is_whole_or_absent_whatever_call_fails(
    tmp_path: Path, soupmerge: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    out = home / "out"
    line = ["mix", *ingredients(tmp_path), "-w", "uniform", "-o", out, "--max-shard-size", "8B"]
    calls = counted(home, soupmerge, line, monkeypatch)
    new = whole(out)
    assert len(new) == 3
    assert calls[-2:] == [f"rename {Path(calls[0].split()[1]).name}", "fsync home"]
    for number, error in failures(calls):
        shutil.rmtree(out)
        ended = failed(home, soupmerge, line, monkeypatch, number, error)
        assert ended.status == 5, (calls[number - 1], ended.err)
        assert os.strerror(error) in ended.err
        assert drafts(home) == []
        if number < len(calls):
            assert not out.exists()
            assert soupmerge(*line).status == 0
        assert whole(out) == new


def test_a_run_is_mended_whatever_call_fails(
    tmp_path: Path, soupmerge: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    out = home / "run"
    x, y = network(tmp_path), network(tmp_path, 1, name="y.safetensors")
    line = ["eval", x, y, *FEW.split(), "-o", out]
    calls = counted(home, soupmerge, line, monkeypatch)
    new = files(out)
    assert sum(call == "write trials.jsonl" for call in calls) == 2
    for number, error in failures(calls):
        shutil.rmtree(out)
        ended = failed(home, soupmerge, line, monkeypatch, number, error)
        assert ended.status == 5, (number, calls[number - 1], ended)
        assert "home" in ended.err
        again = soupmerge(*line)
        assert again.status == 0, (number, calls[number - 1], again)
        assert files(out) == new, calls[number - 1]


def test_a_full_disk_for_real(tmp_path: Path) -> None:
    """The system itself refuses to let a file grow beyond 1 MB."""
    out = tmp_path / "out.safetensors"
    big = [save(tmp_path / f"{n}.safetensors", w=[float(n)] * 500_000) for n in range(2)]
    out.write_bytes(b"an earlier soup")

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    line = ["mix", *big, "-w", "uniform", "-o", out, "--force"]
    ended = subprocess.run(
        [sys.executable, "-m", "soupmerge", *map(str, line)],
        preexec_fn=small,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 5, ended.stderr
    assert "File too large" in ended.stderr
    assert out.read_bytes() == b"an earlier soup"
    assert drafts(tmp_path) == []
