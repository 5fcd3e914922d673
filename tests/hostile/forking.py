"""A process that has loaded soupmerge and forks for each command, so that many can be killed."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.hostile.disk import CHANGING, FAILING, Disk
from tests.hostile.guard import ROOT

LOADED = (
    "soupmerge.cli.adapt",
    "soupmerge.cli.landscape",
    "soupmerge.cli.mix",
    "soupmerge.cli.grid",
    "soupmerge.cli.front",
    "soupmerge.cli.learn",
    "soupmerge.cli.search",
    "soupmerge.cli.results",
    "soupmerge.soups.search.adapt",
    "soupmerge.soups.search.grid",
    "soupmerge.soups.geometry.landscape",
    "soupmerge.soups.search.race",
    "soupmerge.soups.search.simplex",
    "cma",
    "soupmerge.soups.learn.front",
    "soupmerge.soups.learn.run",
    "soupmerge.soups.search.refine",
    "soupmerge.sources.models",
    "soupmerge.sources.images.reading",
    "soupmerge.weights.coefficients",
    "soupmerge.weights.mixing",
    "soupmerge.weights.saving",
    "sklearn.datasets",
    "torch._dynamo",
    "soupmerge.cli.finetune",
    "soupmerge.cli.eval",
    "soupmerge.training.finetuning",
    "soupmerge.soups.judge.comparison",
)
"""What commands would load: loaded before, so that a kill hits their work and not their start."""

CALLS = "disk calls: "
"""In front of the number of disk calls, as the last line of what a watched command says."""


@dataclass
class Job:
    """A command that runs in a process of its own."""

    forker: Forker
    pid: int

    def kill(self, number: int) -> None:
        """Send a signal, unless the command has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ended(self) -> int:
        """Wait for the end, and return the exit status, or the signal as a negative number."""
        self.forker.running = None
        return int(self.forker.line())


class Forker:
    """Starts commands, one at a time; *said* is the file that gets what they say on stderr."""

    def __init__(self, said: Path) -> None:
        self.said = said
        self.running: Job | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from tests.hostile.forking import serve; serve()", said],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.line() == "ready"

    def __enter__(self) -> Forker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.communicate()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def start(self, *words: object, **watched: object) -> Job:
        """Type a command, and return while it runs."""
        assert self.process.stdin is not None
        if self.running:  # a test failed before it waited: what comes next is no process number
            self.running.kill(signal.SIGKILL)
            self.running.ended()
        found = {"words": [str(word) for word in words], **watched}
        self.process.stdin.write(json.dumps(found, default=str) + "\n")
        self.process.stdin.flush()
        self.running = Job(self, int(self.line()))
        return self.running

    def run(self, *words: object) -> int:
        """Type a command, and return its exit status."""
        return self.start(*words).ended()

    def calls(self, home: Path, *words: object, signals: str = "SIGKILL") -> int:
        """Type a command, and return how many calls it makes that `killed` counts."""
        assert self.start(*words, home=home, signals=signals).ended() == 0
        return int(self.said.read_text().rpartition(CALLS)[2])

    def killed(self, home: Path, number: int, *words: object, signals: str = "SIGKILL") -> int:
        """Type a command that gets *signals* at its call *number*, and return how it ended.

        Calls that change what is under *home* are counted; those that remove something, if it is
        killed: who interrupts them may leave it there.
        """
        return self.start(*words, home=home, number=number, signals=signals).ended()


def serve() -> None:
    """Fork for each command that comes in; nothing is computed here, so that forks are clean."""
    for name in LOADED:
        __import__(name)
    gc.freeze()  # or else each child would copy all memory, to look for garbage in it
    _say("ready")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(**json.loads(line))
        _say(pid)
        _, status = os.waitpid(pid, 0)
        _say(os.waitstatus_to_exitcode(status))


def _say(what: Any) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _signal(names: str, place: str) -> None:
    for name in names.split():
        signal.raise_signal(getattr(signal, name))


def _become(words: list[str], home: str = "", number: int = 0, signals: str = "SIGKILL") -> None:
    from soupmerge.cli import main

    said = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(said, 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    # Who runs tests in the background may have had interrupts ignored, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[1:] = words
    names = CHANGING if signals == "SIGKILL" else FAILING
    act = partial(_signal, signals)
    watching = Disk(Path(home), setattr, number, act, names) if home else None
    status: Any = 70
    try:
        main.main()
    except SystemExit as end:
        status = end.code
    except BaseException:  # what Python itself would print, and return
        import traceback

        traceback.print_exc()
        status = 1
    if watching:
        sys.stderr.write(f"{CALLS}{len(watching.calls)}")
    sys.stderr.flush()
    os._exit(status or 0)
