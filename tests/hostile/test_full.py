"""A disk without room is found before work begins, with the bytes that are needed and free."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import soupmerge as sm
from soupmerge.storage.run_folder import SMALL
from tests.hostile.commands import FEW, network, two

Typed = Callable[..., Any]

SEARCHES = {
    "grid": "grid {x} {y} --step 1",
    "race": "grid {x} {y} --step 1 --race",
    "greedy": "greedy {x} {y}",
    "path": "path {x} {y} --points 2",
    "search": "search {x} {y} -n 2",
    "adapt": "adapt {x} {y} --step 1 --shots 4",
    "learn": "learn {x} {y} --eps 0 --epochs 1 --augment none --split val",
}
"""Commands whose run folder receives one soup."""


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the disk have so many bytes free."""

    def has(count: int) -> None:
        usage = shutil.disk_usage(".")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=count))

    return has


@pytest.fixture
def size(tmp_path: Path) -> int:
    """Make two networks, and return the bytes of their soup."""
    return sm.load(two(tmp_path)).bytes


def words(line: str, home: Path) -> list[str]:
    return line.format(x=home / "x.safetensors", y=home / "y.safetensors", home=home).split()


def require_refused(ended: Any, needed: int, free: int) -> None:
    assert ended.status == 5, ended
    assert f"needs {needed:,} bytes, but only {free:,} are free" in ended.err
    assert ended.out == ""


@pytest.mark.parametrize("line", SEARCHES.values(), ids=SEARCHES)
def test_a_search_makes_certain_of_room_for_its_soup(
    tmp_path: Path, size: int, free: Callable[[int], None], soupmerge: Typed, line: str
) -> None:
    out = tmp_path / "run"
    typed = [*words(line, tmp_path), *FEW.split(), "-o", out]
    free(SMALL + size - 1)
    ended = soupmerge(*typed)
    require_refused(ended, SMALL + size, SMALL + size - 1)
    assert "run" in ended.err
    assert [file for file in out.iterdir() if file.name[0] != "."] == []
    free(SMALL + size)
    assert soupmerge(*typed).status == 0
    assert (out / "soup.safetensors").exists()


def test_a_sweep_makes_certain_of_room_for_the_soups_that_are_missing(
    tmp_path: Path, size: int, free: Callable[[int], None], soupmerge: Typed
) -> None:
    line = f"learn {{x}} {{y}} --eps 0,0.1 --epochs 1 --augment none {FEW} -o {{home}}/run"
    typed = words(line, tmp_path)
    free(SMALL + 2 * size - 1)
    require_refused(soupmerge(*typed), SMALL + 2 * size, SMALL + 2 * size - 1)
    free(SMALL + 2 * size)
    assert soupmerge(*typed).status == 0
    next((tmp_path / "run").glob("soups/*/soup.safetensors")).unlink()
    free(SMALL + size)
    assert soupmerge(*typed).status == 0
    require_refused(soupmerge(*typed, "--force"), SMALL + 2 * size, SMALL + size)


def test_a_training_makes_certain_of_room_for_what_it_keeps(
    tmp_path: Path, size: int, free: Callable[[int], None], soupmerge: Typed
) -> None:
    line = f"finetune {{x}} --threat clean --epochs 2 --every 1 {FEW} -o {{home}}/f.safetensors"
    needed = SMALL + (1 + 2 + 4) * size
    free(needed - 1)
    require_refused(soupmerge(*words(line, tmp_path)), needed, needed - 1)
    assert not list((tmp_path / "f.run").glob("*.jsonl"))
    free(needed)
    assert soupmerge(*words(line, tmp_path)).status == 0


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("mix {x} {y} -w uniform -o {home}/s.safetensors", 1),
        ("mix {x} {y} -w uniform -o {home}/s --max-shard-size 5KB", 1),
        ("mix {x} {y} -w uniform --dtype float64 -o {home}/s.safetensors", 2),
        ("mix {x} {y} -w uniform -o {home}/s.safetensors --dry-run", 1),
        ("convert {x} -o {home}/s.safetensors", 1),
        ("export {x} -o {home}/s", 1),
    ],
)
def test_what_writes_a_soup_makes_certain_of_its_room(
    tmp_path: Path, size: int, free: Callable[[int], None], soupmerge: Typed, line: str, share: int
) -> None:
    counters = sum(t.nbytes for t in sm.load(tmp_path / "x.safetensors")[0].values() if t.ndim == 0)
    needed = share * (size - counters) + counters
    free(needed - 1)
    require_refused(soupmerge(*words(line, tmp_path)), needed, needed - 1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.safetensors", "y.safetensors"]
    free(needed)
    assert soupmerge(*words(line, tmp_path)).status == 0


@pytest.mark.parametrize("option", ["--buffers recalibrate --data digits --limit 8", ""])
def test_the_place_is_tried_before_work(
    tmp_path: Path,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
    free: Callable[[int], None],
    soupmerge: Typed,
    option: str,
) -> None:
    """Statistics, and an export, take long to make."""

    def worked(*args: object, **more: object) -> None:
        raise AssertionError("it worked")

    monkeypatch.setattr(sm, "recalibrate", worked)
    monkeypatch.setattr("soupmerge.weights.mixing.soup_tensors", worked)
    free(size - 1)
    line = f"mix {{x}} {{y}} -w uniform -o {{home}}/s.safetensors {option}"
    require_refused(soupmerge(*words(line, tmp_path)), size, size - 1)
    free(size)
    (tmp_path / "there").mkdir()
    away = soupmerge(*words(f"{line} --export {{home}}/nowhere/e", tmp_path))
    assert away.status == 5
    assert "nowhere" in away.err


def test_force_may_use_the_room_of_what_it_replaces(
    tmp_path: Path, size: int, free: Callable[[int], None], soupmerge: Typed
) -> None:
    typed = [*words(SEARCHES["grid"], tmp_path), *FEW.split(), "-o", tmp_path / "run"]
    assert soupmerge(*typed).status == 0
    soup = (tmp_path / "run" / "soup.safetensors").read_bytes()
    freed = sum(f.stat().st_size for f in (tmp_path / "run").rglob("*.*") if f.name[0] != ".")
    freed -= (tmp_path / "run" / "manifest.json").stat().st_size
    free(SMALL + size - freed - 1)
    require_refused(soupmerge(*typed, "--force"), SMALL + size - freed, SMALL + size - freed - 1)
    assert (tmp_path / "run" / "soup.safetensors").read_bytes() == soup
    free(SMALL + size - freed)
    assert soupmerge(*typed, "--force").status == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of 600 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_grid_on_a_full_disk_judges_nothing(
    tmp_path: Path, small: Path, soupmerge: Typed
) -> None:
    line = f"grid {{x}} {{y}} --step 0.5 {FEW} -o {small}/run"
    network(tmp_path, 1, name="y.safetensors")
    network(tmp_path)
    ended = soupmerge(*words(line, tmp_path))
    assert ended.status == 5
    assert f"{small}/run" in ended.err
    assert "are free there; free some" in ended.err
    assert not (small / "run" / "trials.jsonl").exists()
