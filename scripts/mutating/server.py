"""Runs tests in forks of a process that has loaded everything slow, but nothing of the package."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

HEAVY = ["pytest", "_pytest.doctest", "coverage"]
"""What is loaded before the first fork; pyproject.toml adds to it."""
STAMP = 1_000_000_000
"""The modification time of unchanged files in a copy."""
MOST = 2 * 2**30
"""Bytes that a mutant may write to one file."""
LATE, CRASHED = -1, -2
"""In place of pytest's exit status."""


@functools.cache
def preload() -> None:
    """Load what tests need, with one thread each: a fork has only the thread that forks."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ.setdefault("MPLBACKEND", "agg")
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            __import__(name)
    for plugin in entry_points(group="pytest11"):
        plugin.load()
    ours = [name for name in sys.modules if name.split(".")[0] in ("soupmerge", "tests")]
    assert not ours, f"loaded before the fork: {ours}"
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Task:
    """Something to run in a fork, with *source* in place of what *file* holds.

    *run* gets a folder for notes, *done* what it returned; *limit* is in seconds of processor time.
    """

    run: Callable[[Path], Any]
    limit: float
    done: Callable[[Any], None]
    file: str = ""
    source: str = ""


class Slot:
    """A copy of the working tree, in which one task at a time is run."""

    def __init__(self, root: Path, home: Path) -> None:
        """Copy what git tracks or would add below *root* to *home*."""
        self.tree, self.home = home / "tree", home
        self.pid, self.stamp, self.deadline = 0, STAMP, 0.0
        self.task: Task
        words = [
            "git",
            "-C",
            str(root),
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]
        names = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (root / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, self.tree / name)
                os.utime(self.tree / name, (STAMP, STAMP))

    def start(self, task: Task) -> None:
        """Fork, and run a task in the child."""
        self.task, path = task, self.tree / task.file
        if task.file:
            self.original = path.read_bytes()
            path.write_text(task.source)
            self.stamp += 1  # a time of its own, so that no byte code is taken for another's
            os.utime(path, (self.stamp, self.stamp))
        for name in ("result.json", "running"):
            (self.home / name).unlink(missing_ok=True)
        # Processor time tells a hang from a busy machine; the clock is for what waits for ever.
        self.deadline = time.monotonic() + 60 + 20 * task.limit
        self.pid = os.fork()
        if self.pid == 0:
            self._become(task)

    def _become(self, task: Task) -> None:
        result = {"status": CRASHED, "why": "interrupted"}
        try:
            os.setsid()
            with open(self.home / "output.txt", "w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            seconds = int(task.limit) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10))
            resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, resource.RLIM_INFINITY))
            os.environ["PYTHONPATH"] = str(self.tree)
            os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            sys.path[0] = str(self.tree)  # instead of the folder of this script
            os.chdir(self.tree)
            shutil.rmtree(self.home / "tmp", ignore_errors=True)
            result = task.run(self.home)
        except BaseException:
            result["why"] = traceback.format_exc()
        finally:
            with contextlib.suppress(Exception):
                (self.home / "result.json").write_text(json.dumps(result))
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(0)

    def ended(self) -> bool:
        """Tell whether the task is over; if so, hand on its result."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0 and time.monotonic() < self.deadline:
            return False
        late = pid == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU)
        self.stop(reap=pid == 0)
        path, running = self.home / "result.json", self.home / "running"
        if path.exists() and not late:
            result = json.loads(path.read_text())
        else:
            test = running.read_text() if running.exists() else ""
            why = f"{'out of time' if late else 'crashed'} in {test or 'its start'}"
            result = {"status": LATE if late else CRASHED, "failed": test, "why": why}
        self.task.done(result)
        return True

    def stop(self, reap: bool = True) -> None:
        """End the task, if there is one, with all processes it started; restore the file."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            if reap:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            self.pid = 0
            if self.task.file:
                path = self.tree / self.task.file
                path.write_bytes(self.original)
                os.utime(path, (STAMP, STAMP))


def run_all(slots: list[Slot], take: Callable[[], Task | None]) -> None:
    """Run tasks, one per slot, as long as *take* has some or a slot is at work."""
    try:
        while True:
            for slot in slots:
                if not slot.pid or slot.ended():
                    task = take()
                    if task is not None:
                        preload()
                        slot.start(task)
            if not any(slot.pid for slot in slots):
                return
            time.sleep(0.01)
    finally:
        for slot in slots:
            slot.stop()
