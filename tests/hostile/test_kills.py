"""Killed at any moment: what is there is whole, and the same command finishes the work."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.hostile.commands import FEW, network, two
from tests.hostile.kitchen import Job, Kitchen

KILLS = 20
NUMBERS = 6_000_000
"""Of each file: 24 MB, so that writing takes a while."""


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kitchen]:
    with Kitchen(tmp_path_factory.mktemp("kitchen") / "said") as made:
        yield made


@pytest.fixture(scope="module")
def pots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("pots")
    draw = np.random.default_rng(0)
    paths = [home / f"{name}.safetensors" for name in "abc"]
    for path in paths:
        parts = draw.standard_normal((3, NUMBERS // 3), "f4")
        safetensors.numpy.save_file({f"w{i}": part for i, part in enumerate(parts)}, path)
    return paths


def drafts(home: Path) -> list[Path]:
    return [path for path in home.iterdir() if path.name.endswith(".tmp")]


def whole(path: Path) -> dict[str, bytes]:
    """Return what is at *path*, a file or a folder of files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


def times(kitchen: Kitchen, words: list[object]) -> tuple[float, list[float]]:
    """Return how long *words* takes, and when to kill it, spread over that time."""
    began = time.monotonic()
    assert kitchen.run(*words) == 0
    took = time.monotonic() - began
    draw = random.Random(0)
    return took, [took * (i + draw.random()) / KILLS for i in range(KILLS)]


def test_kill_9_leaves_the_old_soup_or_the_new(
    kitchen: Kitchen, pots: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    mix: list[object] = ["mix", *pots, "-w", "1/2,1/4,1/4", "-o", out, "--force"]
    old = b"an earlier soup" * 100_000
    _, moments = times(kitchen, mix)
    new = out.read_bytes()
    torn = 0
    for moment in moments:
        out.write_bytes(old)
        job = kitchen.start(*mix)
        time.sleep(moment)
        job.kill(signal.SIGKILL)
        assert job.ended() in (0, -signal.SIGKILL)
        assert out.read_bytes() in (old, new)
        torn += len(drafts(tmp_path))
        assert kitchen.run(*mix) == 0
        assert out.read_bytes() == new
        assert drafts(tmp_path) == []
    assert torn, "no kill came while something was written"


def test_kill_9_leaves_a_folder_of_shards_whole_or_absent(
    kitchen: Kitchen, pots: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    mix: list[object] = ["mix", *pots, "-w", "uniform", "-o", out, "--max-shard-size", "8MB"]
    _, moments = times(kitchen, mix)
    new = whole(out)
    assert len(new) == 4
    torn = 0
    for moment in moments:
        shutil.rmtree(out)
        job = kitchen.start(*mix)
        time.sleep(moment)
        job.kill(signal.SIGKILL)
        assert job.ended() in (0, -signal.SIGKILL)
        torn += len(drafts(tmp_path))
        if out.exists():
            assert whole(out) == new
        else:
            assert kitchen.run(*mix) == 0
            assert whole(out) == new
            assert drafts(tmp_path) == []
    assert torn, "no kill came while something was written"


@pytest.mark.parametrize("gap", [None, 0.0, 0.002, 0.02])
def test_an_interrupted_mix_leaves_nothing_half_done(
    kitchen: Kitchen, pots: list[Path], tmp_path: Path, gap: float | None
) -> None:
    """Once, or a second time *gap* seconds later, while the first is being dealt with."""
    out = tmp_path / "out.safetensors"
    mix: list[object] = ["mix", *pots, "-w", "uniform", "-o", out, "--force"]
    took, _ = times(kitchen, mix)
    new, old = out.read_bytes(), b"an earlier soup"
    draw = random.Random(1)
    interrupted = 0
    for _ in range(6):
        out.write_bytes(old)
        job = kitchen.start(*mix)
        # Before that, Python is still about to say what an interrupt means.
        time.sleep(took * draw.uniform(0.1, 0.9))
        job.kill(signal.SIGINT)
        if gap is not None:
            time.sleep(gap)
            job.kill(signal.SIGINT)
        began = time.monotonic()
        status = job.ended()
        assert time.monotonic() - began < 5
        said = kitchen.said.read_text()
        assert status in (0, 130), said
        # Python itself says so where it is interrupted while it lets go of an object.
        assert "Traceback" not in said or "Exception ignored in" in said
        assert out.read_bytes() == new if status == 0 else out.read_bytes() in (old, new)
        if status == 130:
            interrupted += 1
            assert "nothing was kept; start again with: soupmerge mix" in said
        assert gap is not None or drafts(tmp_path) == []
    assert interrupted
    assert kitchen.run(*mix) == 0
    assert out.read_bytes() == new
    assert drafts(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "journal"),
    [
        ("grid {x} {y} --step 0.05 --threat linf:0.1 --steps 15", "trials.jsonl"),
        ("grid {x} {y} --step 0.05 --threat linf:0.1 --steps 15 --race", "rounds.jsonl"),
        ("grid {x} {y} --step 0.05 --threat linf:0.1 --steps 15 --transfer", "trials.jsonl"),
        ("search {x} {y} --method cma -n 25 --threat linf:0.1 --steps 15", "trials.jsonl"),
        ("learn {x} {y} --eps 0.1 --epochs 20 --augment none --batch-size 8", "history.jsonl"),
        ("adapt {x} {y} --step 0.01 --shots 4 --data noise-5:digits", "trials.jsonl"),
        ("landscape {x} {y} {z} --points 7 --threat linf:0.1 --steps 5", "trials.jsonl"),
    ],
    ids=["grid", "race", "transfer", "search", "learn", "adapt", "landscape"],
)
def test_a_run_killed_five_times_over_ends_as_if_it_had_not_been(
    kitchen: Kitchen, tmp_path: Path, line: str, journal: str
) -> None:
    x, z = two(tmp_path), network(tmp_path, logit=1.0, name="z.safetensors")
    words = [
        *line.format(x=x, y=tmp_path / "y.safetensors", z=z).split(),
        *FEW.split(),
        "-j",
        "1",
        "-q",
    ]
    assert kitchen.run(*words, "-o", tmp_path / "whole") == 0
    cut = tmp_path / "cut"
    killed = 0
    for _ in range(5):
        job = kitchen.start(*words, "-o", cut)
        wait_for_lines(cut / journal, lines(cut / journal) + 2)
        job.kill(signal.SIGKILL)
        killed += job.ended() == -signal.SIGKILL
        assert not (cut / "soup.safetensors").exists() or killed < 5
    assert killed == 5, "it was done before it could be killed"
    assert lines(cut / journal) < lines(tmp_path / "whole" / journal)
    assert kitchen.run(*words, "-o", cut) == 0
    assert files(cut) == files(tmp_path / "whole")
    assert drafts(cut) == []


def wait_for_lines(path: Path, count: int) -> None:
    for _ in range(1000):
        if lines(path) >= count:
            return
        time.sleep(0.005)
    raise AssertionError(f"{path} has {lines(path)} lines, not {count}")


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def files(home: Path) -> dict[str, bytes]:
    """Return all that a run leaves, but for its lock."""
    found = [path for path in home.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(home)): path.read_bytes() for path in found}


def test_a_kill_can_be_seen(kitchen: Kitchen, tmp_path: Path) -> None:
    """The tests above would pass if nothing was killed."""
    job: Job = kitchen.start(
        "learn",
        two(tmp_path),
        tmp_path / "y.safetensors",
        *FEW.split(),
        "--eps",
        "0",
        "--epochs",
        100_000,
        "-o",
        tmp_path / "run",
    )
    time.sleep(0.5)
    job.kill(signal.SIGKILL)
    assert job.ended() == -signal.SIGKILL
