"""Runs tests in forks of a process that has loaded what is slow to load, but nothing of ours."""

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
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

HEAVY = ["pytest", "_pytest.doctest", "coverage"]
"""What is loaded before the first fork; pyproject.toml names more."""
OLD = 1_000_000_000
"""The time stamp of unchanged files."""
WRITES = 2 * 2**30
"""Bytes that a changed program may write to one file."""


@functools.cache
def preload() -> None:
    """Load what tests need, one thread each; forks of threads would hang."""
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


def copy_tree(root: Path, there: Path) -> None:
    """Copy the files that git knows or would add, as they are now."""
    words = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (root / name).is_file():
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, there / name)
            os.utime(there / name, (OLD, OLD))


class Slot:
    """A copy of the working tree in which one process at a time runs tests."""

    def __init__(self, root: Path, home: Path) -> None:
        """Copy the tree below *root* to a new folder, *home*."""
        self.tree, self.home, self.pid = home / "tree", home, 0
        self.deadline, self.done = 0.0, lambda found: None
        self.stamp = OLD
        copy_tree(root, self.tree)

    def start(self, file: str, source: str, run: Callable[[Path], Any], limit: float) -> None:
        """Start *run* in a fork, with *source* in place of a file's; *limit* its processor time."""
        path = self.tree / file
        self._mend = (path, path.read_bytes()) if file else None
        if file:  # at a time of its own, so that no byte code is taken for another's
            path.write_text(source)
            self.stamp += 1
            os.utime(path, (self.stamp, self.stamp))
        for name in ("found.json", "running"):
            (self.home / name).unlink(missing_ok=True)
        # A run that hangs is told from one on a busy machine by its processor time.
        self.deadline = time.monotonic() + 60 + 20 * limit
        self.pid = os.fork()
        if self.pid == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 11))
            self._become(run)

    def _become(self, run: Callable[[Path], Any]) -> None:
        status = 70
        try:
            os.setsid()
            with open(self.home / "said.txt", "w") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            resource.setrlimit(resource.RLIMIT_FSIZE, (WRITES, resource.RLIM_INFINITY))
            os.environ["PYTHONPATH"] = str(self.tree)
            os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            sys.path[:] = [str(self.tree), *(p for p in sys.path if "scripts" not in Path(p).parts)]
            os.chdir(self.tree)
            shutil.rmtree(self.home / "tmp", ignore_errors=True)
            found = run(self.home)
            status = 0
        except BaseException:
            found = {"status": status, "failed": "", "why": traceback.format_exc()}
        finally:
            with contextlib.suppress(Exception):
                (self.home / "found.json").write_text(json.dumps(found))
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def ended(self) -> bool:
        """Tell whether the run is over, and end it where its time is."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0 and time.monotonic() < self.deadline:
            return False
        late = pid == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU)
        self.stop(reap=pid == 0)
        found, running = self.home / "found.json", self.home / "running"
        if late:
            self.done("timed out")
        elif found.exists():
            self.done(json.loads(found.read_text()))
        else:
            test = running.read_text() if running.exists() else ""
            self.done({"status": 70, "failed": test, "why": f"crashed in {test or 'its start'}"})
        return True

    def stop(self, reap: bool = True) -> None:
        """End the run and all that it started, and mend the file."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            if reap:
                os.waitpid(self.pid, 0)
            self.pid = 0
            if self._mend:
                path, content = self._mend
                path.write_bytes(content)
                os.utime(path, (OLD, OLD))


Task = tuple[str, str, Callable[[Path], Any], float, Callable[[Any], None]]
"""A file, what it should hold, what to run, for how many seconds, and who gets the result."""


def run_all(slots: list[Slot], take: Callable[[], Task | None]) -> None:
    """Run tasks, one a slot, for as long as *take* gives some or a slot is at work."""
    try:
        while True:
            for slot in slots:
                if not slot.pid or slot.ended():
                    task = take()
                    if task is not None:
                        preload()
                        slot.done = task[4]
                        slot.start(*task[:4])
            if not any(slot.pid for slot in slots):
                return
            time.sleep(0.01)
    finally:
        for slot in slots:
            slot.stop()
