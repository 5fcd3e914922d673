"""Killed at any moment: what is there is whole, and the same command finishes the work.

The disk only changes by calls to the system, so that a process that ends at each of them in turn,
half-way through it if it writes, has ended at every moment there is.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.commands import FEW, network, two
from tests.hostile.disk import drafts, files, whole
from tests.hostile.forking import Forker, Job
from tests.hostile.rows import save


@pytest.fixture(scope="module")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    with Forker(tmp_path_factory.mktemp("forker") / "said") as made:
        yield made


@pytest.fixture
def ingredients(tmp_path: Path) -> list[Path]:
    return [save(tmp_path / f"{name}.safetensors", seed=seed) for seed, name in enumerate("abc")]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_kill_9_leaves_the_old_soup_or_the_new(
    forker: Forker, ingredients: list[Path], home: Path
) -> None:
    out = home / "out.safetensors"
    mix: list[object] = ["mix", *ingredients, "-w", "1/2,1/4,1/4", "-o", out, "--force"]
    calls = forker.calls(home, *mix)
    new, old = out.read_bytes(), b"an earlier soup"
    torn = seen = 0
    for number in range(1, calls + 1):
        out.write_bytes(old)
        assert forker.killed(home, number, *mix) == -signal.SIGKILL
        assert out.read_bytes() in (old, new)
        torn, seen = torn + len(drafts(home)), seen + (out.read_bytes() == new)
        assert forker.run(*mix) == 0
        assert out.read_bytes() == new
        assert drafts(home) == []
    assert torn > 2, "no kill came while something was written"
    assert 0 < seen < calls, "no kill came after it had been"


def test_kill_9_leaves_a_folder_of_shards_whole_or_absent(
    forker: Forker, ingredients: list[Path], home: Path
) -> None:
    out = home / "out"
    mix: list[object] = ["mix", *ingredients, "-w", "uniform", "-o", out, "--max-shard-size", "8B"]
    calls = forker.calls(home, *mix)
    new = whole(out)
    assert len(new) == 3
    torn = 0
    for number in range(1, calls + 1):
        shutil.rmtree(out)
        assert forker.killed(home, number, *mix) == -signal.SIGKILL
        torn += len(drafts(home))
        if not out.exists():
            assert forker.run(*mix) == 0
            assert drafts(home) == []
        assert whole(out) == new
    assert torn > 2, "no kill came while something was written"


@pytest.mark.parametrize("signals", ["SIGINT", "SIGTERM", "SIGINT SIGINT", "SIGTERM SIGINT"])
def test_an_interrupted_mix_leaves_nothing_half_done(
    forker: Forker, ingredients: list[Path], home: Path, signals: str
) -> None:
    """Once, or a second time while the first is being dealt with."""
    out = home / "out.safetensors"
    mix: list[object] = ["mix", *ingredients, "-w", "uniform", "-o", out, "--force"]
    calls = forker.calls(home, *mix, signals=signals)
    new, old = out.read_bytes(), b"an earlier soup"
    ends = set()
    for number in range(1, calls + 1):
        out.write_bytes(old)
        status = forker.killed(home, number, *mix, signals=signals)
        said = forker.said.read_text()
        assert status in (130, 143), said
        assert "Traceback" not in said
        assert "nothing was kept; start again with: soupmerge mix" in said
        assert out.read_bytes() in (old, new)
        assert drafts(home) == []
        ends.add(status)
    assert ends <= {130, 143 if "TERM" in signals else 130}


RUNS = {
    "grid": "grid {x} {y} --step 0.2 --threat linf:0.1 --steps 3",
    "race": "grid {x} {y} --step 0.2 --threat linf:0.1 --steps 3 --race",
    "transfer": "grid {x} {y} --step 0.2 --threat linf:0.1 --steps 3 --transfer",
    "search": "search {x} {y} --method cma -n 8 --threat linf:0.1 --steps 3",
    "learn": "learn {x} {y} --eps 0.1 --epochs 4 --augment none --batch-size 4",
    "front": "front {x} {y} --objective clean --objective linf:0.1 --epochs 4 --augment none "
    "--batch-size 4 --judge-split test --judge-limit 4 --steps 3 --points 3",
    "adapt": "adapt {x} {y} --step 0.2 --shots 4 --data noise-5:digits",
    "landscape": "landscape {x} {y} {z} --points 3 --threat linf:0.1 --steps 3",
    "finetune": "finetune {x} --threat linf:0.1 --epochs 3 --every 1 --augment none",
    "eval": "eval {x} {y} --threat linf:0.1 --steps 3",
}
KILLS = 5


@pytest.mark.parametrize("line", RUNS.values(), ids=RUNS)
def test_a_run_killed_five_times_over_ends_as_if_it_had_not_been(
    forker: Forker, tmp_path: Path, home: Path, line: str
) -> None:
    """Each time a little later in what is left of the work."""
    x, z = two(tmp_path), network(tmp_path, logit=1.0, name="z.safetensors")
    given = line.format(x=x, y=tmp_path / "y.safetensors", z=z).split()
    words = [*given, *FEW.split(), "-j", "1", "-q", "-o"]
    out = "soup.safetensors" if given[0] == "finetune" else "run"
    (tmp_path / "whole").mkdir()
    calls = forker.calls(tmp_path / "whole", *words, tmp_path / "whole" / out)
    kill_five_times(forker, home, calls, *words, home / out)
    assert files(home) == files(tmp_path / "whole")
    assert list(home.rglob("*.tmp")) == []


def kill_five_times(forker: Forker, home: Path, calls: int, *words: object) -> None:
    """Type a command of so many *calls* until it is done, each time to be killed a little later."""
    for i in range(KILLS):
        left = max(calls * (i + 1) // (KILLS + 2), 2)
        status = forker.killed(home, left, *words)
        assert status in (-signal.SIGKILL, 0), forker.said.read_text()
        assert i > 1 or status, "it was done before it could be killed"
    assert forker.run(*words) == 0


def test_a_search_of_a_front_killed_five_times_over_ends_as_if_it_had_not_been(
    forker: Forker, tmp_path: Path, home: Path
) -> None:
    x, z = two(tmp_path), network(tmp_path, logit=1.0, name="z.safetensors")
    learned = ("front", x, z, "--objective", "clean", "--objective", "linf:0.1", "--epochs", 1)
    assert forker.run(*learned, *FEW.split(), "-q", "-o", home / "run") == 0
    shutil.copytree(home, tmp_path / "whole")
    judged = ("--data", "digits", "--limit", 30, "--steps", 2, "-j", 1, "-q")
    words = ("select", *judged, "--knee")
    calls = forker.calls(tmp_path / "whole", *words, tmp_path / "whole" / "run")
    kill_five_times(forker, home, calls, *words, home / "run")
    assert files(home) == files(tmp_path / "whole")


def started(forker: Forker, tmp_path: Path) -> Job:
    """Start a run that would not end, and return once it has taken a step."""
    words = ["learn", two(tmp_path), tmp_path / "y.safetensors", *FEW.split(), "--eps", "0"]
    job = forker.start(*words, "--epochs", 100_000, "-o", tmp_path / "run")
    for _ in range(1000):
        if (tmp_path / "run" / "history.jsonl").exists():
            break
        time.sleep(0.01)
    return job


def test_a_kill_in_the_middle_of_computing(forker: Forker, tmp_path: Path) -> None:
    """From outside, while nothing is written."""
    job = started(forker, tmp_path)
    job.kill(signal.SIGKILL)
    assert job.ended() == -signal.SIGKILL
    assert not (tmp_path / "run" / "soup.safetensors").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_at_once_and_says_how_to_go_on(
    forker: Forker, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    job = started(forker, tmp_path)
    job.kill(number)
    began = time.monotonic()
    assert job.ended() == status
    assert time.monotonic() - began < 5
    said = forker.said.read_text()
    assert "Traceback" not in said
    assert "resume with: soupmerge learn " in said
    assert str(tmp_path / "run") in said
