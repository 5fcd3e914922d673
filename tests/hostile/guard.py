"""What holds while a hostile file is read: no code runs, time ends, memory stays, files stay."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parent.parent.parent
SECONDS = 10
"""That a command may compute."""
WAIT = 60
"""Seconds that it may take on a busy machine, and that a wait without end lasts."""
MOST_MEMORY = 6 << 30
"""Bytes that a child may ask for, so that a bomb ends the child and not the machine."""

ROOM = "HOSTILE_ROOM"
"""Names the variable that says how much more memory than it has a child may take."""

WATCHED = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "socket.connect",
    "socket.getaddrinfo",
    "pickle.find_class",
    "webbrowser.open",
)
"""Events of ``sys.audit`` that no file of weights may cause."""


class Watch:
    """Notes what Python does behind the scenes; a hook cannot be taken out, so it is switched."""

    def __init__(self) -> None:
        self.on, self.seen = False, []
        sys.addaudithook(self.hear)

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in WATCHED:
            self.seen.append(event)
        elif event == "open" and "secret" in str(args[0]):
            self.seen.append(f"open {args[0]}")

    @contextlib.contextmanager
    def watching(self) -> Iterator[list[str]]:
        """Give the list of what is seen meanwhile."""
        self.on, self.seen = True, []
        try:
            yield self.seen
        finally:
            self.on = False


WATCH = Watch()


class TooLongError(BaseException):
    """Not an Exception: the command line would make a message of it."""


@contextlib.contextmanager
def time_limit(seconds: float = SECONDS) -> Iterator[None]:
    """Raise out of a loop that computes for *seconds*, and out of a wait that does not end."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLongError(f"computed longer than {seconds} s, or waited {WAIT} s")

    before = [signal.signal(number, ring) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGPROF, before[0])
        signal.signal(signal.SIGALRM, before[1])


def files_in(home: Path) -> dict[str, str]:
    """Return all under *home*, pipes and links too, by what each of them is and holds."""
    found = {}
    for path in sorted(home.rglob("*")):
        seen = os.lstat(path)
        kind = stat.filemode(seen.st_mode)
        if stat.S_ISLNK(seen.st_mode):
            kind = os.readlink(path)
        elif stat.S_ISREG(seen.st_mode):
            # What is sparse is larger than the disk; its first bytes and size stand for it.
            with open(path, "rb") as file:
                kind += f"{seen.st_size} {hashlib.sha256(file.read(1 << 26)).hexdigest()}"
        found[str(path.relative_to(home))] = kind
    return found


@dataclass
class Ended:
    """A command that ended in a process of its own."""

    status: int
    out: str
    err: str
    memory: int
    seen: list[str]


def in_child(words: Sequence[object], home: Path, env: dict[str, str]) -> Ended:
    """Type a command in a process of its own, in *home*; see also the memory it took at most.

    Read from ``VmHWM``: what ``getrusage`` says begins with the memory of the parent.
    """
    result = subprocess.run(
        [sys.executable, "-c", "from tests.hostile.guard import child; child()", *map(str, words)],
        capture_output=True,
        cwd=home,
        env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
        timeout=WAIT + 5,
    )
    out, _, report = result.stdout.decode().rpartition("\n---\n")
    err = result.stderr.decode()
    assert report, f"ended by {result.returncode}: {err}"
    took = json.loads(report)
    return Ended(result.returncode, out, err, took["memory"], took["seen"])


def child() -> None:
    """Run the command that ``sys.argv`` names, and print what it took."""
    from soupmerge.cli.main import run

    most = MOST_MEMORY
    if more := os.environ.get(ROOM):
        import_module("soupmerge.weights.recipe")  # and numpy, which is not to be the first
        most = memory_of("VmSize") + int(more)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with time_limit(), WATCH.watching() as seen:
        status = run(sys.argv[1:])
    sys.stdout.write("\n---\n" + json.dumps({"memory": memory_of("VmHWM"), "seen": seen}))
    sys.stdout.flush()
    sys.exit(status)


def memory_of(field: str) -> int:
    """Return the bytes that the system says of this process."""
    found = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """Be nobody for a while if root runs the tests, whom no mode of a file would stop."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
