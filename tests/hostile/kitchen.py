"""A process that has loaded soupmerge and forks for each command, so that many can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.hostile.guard import ROOT

LOADED = (
    "soupmerge.cli.adapt",
    "soupmerge.cli.landscape",
    "soupmerge.cli.mix",
    "soupmerge.cli.grid",
    "soupmerge.cli.learn",
    "soupmerge.cli.search",
    "soupmerge.cli.results",
    "soupmerge.soups.adapting",
    "soupmerge.soups.grid",
    "soupmerge.soups.landscape",
    "soupmerge.soups.racing",
    "soupmerge.soups.searching",
    "cma",
    "soupmerge.soups.learning",
    "soupmerge.sources.models",
    "soupmerge.sources.readers",
    "soupmerge.weights.coefficients",
    "soupmerge.weights.mixing",
    "sklearn.datasets",
)
"""What commands would load: loaded before, so that a kill hits their work and not their start."""


@dataclass
class Job:
    """A command that runs in a process of its own."""

    kitchen: Kitchen
    pid: int

    def kill(self, number: int) -> None:
        """Send a signal, unless the command has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ended(self) -> int:
        """Wait for the end, and return the exit status, or the signal as a negative number."""
        return int(self.kitchen.line())


class Kitchen:
    """Starts commands, one at a time; *said* is the file that gets what they say on stderr."""

    def __init__(self, said: Path) -> None:
        self.said = said
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from tests.hostile.kitchen import serve; serve()", said],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.line() == "ready"

    def __enter__(self) -> Kitchen:
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

    def start(self, *words: object) -> Job:
        """Type a command, and return while it runs."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        self.process.stdin.flush()
        return Job(self, int(self.line()))

    def run(self, *words: object) -> int:
        """Type a command, and return its exit status."""
        return self.start(*words).ended()


def serve() -> None:
    """Fork for each command that comes in; nothing is computed here, so that forks are clean."""
    for name in LOADED:
        __import__(name)
    _say("ready")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
        _say(pid)
        _, status = os.waitpid(pid, 0)
        _say(os.waitstatus_to_exitcode(status))


def _say(what: Any) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _become(words: list[str]) -> None:
    from soupmerge.cli import main

    said = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(said, 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    # Who runs tests in the background may have had interrupts ignored, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[1:] = words
    status: Any = 70
    try:
        main.main()
    except SystemExit as end:
        status = end.code
    except BaseException:  # what Python itself would print, and return
        import traceback

        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status or 0)
