"""What all benchmarks share: options, time and memory of whole processes, and printed results."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

PYTHON = sys.executable


RECORDING = """
import atexit, sys
record = sys.argv.pop(1)

@atexit.register
def write_record():
    with open("/proc/self/status") as status, open(record, "w") as file:
        file.write(status.read())
"""
"""Code that makes a process record its memory at its end, in the file of its first argument."""


class Memory(NamedTuple):
    """Resident memory of a process, in bytes, as in /proc/PID/status.

    Attributes:
        peak: the highest resident memory so far, mapped or allocated (VmHWM).
        mapped: pages of files, mostly libraries, at the time of reading (RssFile).
        allocated: pages that belong to no file, at the time of reading (RssAnon).
    """

    peak: int
    mapped: int
    allocated: int

    @classmethod
    def read(cls, path: str) -> Memory:
        """Return what the status file *path* says; raise KeyError if the process has ended."""
        lines = dict(line.split(":", 1) for line in Path(path).read_text().splitlines())
        names = ("VmHWM", "RssFile", "RssAnon")
        return cls(*(int(lines[name].split()[0]) * 1024 for name in names))


def options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the arguments, after adding the options of all benchmarks to *parser*."""
    parser.add_argument("--quick", action="store_true", help="finish in under 5 minutes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


def seconds(command: Sequence[str], *, status: int = 0, **kwargs: Any) -> float:
    """Return the wall time of a whole process, which must end with *status*."""
    began = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, **kwargs)
    taken = time.perf_counter() - began
    if ended.returncode != status:
        raise SystemExit(f"{command} ended with {ended.returncode}: {ended.stderr}")
    return taken


def peak(code: str, *arguments: str) -> Memory:
    """Return the peak memory of a whole process, ``python -c CODE ARGUMENTS``.

    The process records it itself, at its end. What the system reports for a child that has ended
    (ru_maxrss) is never below the peak of its parent, which may be larger than its own.
    """
    with tempfile.NamedTemporaryFile("r") as record:
        command = [PYTHON, "-c", f"{RECORDING}\n{code}", record.name, *arguments]
        seconds(command)
        return Memory.read(record.name)


def watched_peak(command: Sequence[str]) -> Memory:
    """Return the peak memory of another program, read a hundred times a second."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = Memory(0, 0, 0)
    while child.poll() is None:
        with contextlib.suppress(OSError, KeyError):  # it has just ended
            seen = Memory.read(f"/proc/{child.pid}/status")
            most = Memory(*map(max, most, seen))
        time.sleep(0.01)
    if child.returncode:
        raise SystemExit(f"{command} ended with {child.returncode}")
    return most


def in_turn(*commands: Sequence[str], times: int) -> list[float]:
    """Return the median wall time of each of *commands*, which take turns after a warm-up round."""
    rounds = [[seconds(command) for command in commands] for _ in range(times + 1)]
    return [statistics.median(column) for column in zip(*rounds[1:], strict=True)]


def ratio(value: float, goal: str) -> dict[str, Any]:
    """Return a measured ratio with its *goal*, such as ``<= 2``, and whether that holds."""
    sign, limit = goal.split()
    holds = value <= float(limit) if sign == "<=" else value >= float(limit)
    return {"value": round(value, 3), "goal": goal, "holds": holds}


def answer(ratios: dict[str, dict[str, Any]], *, as_json: bool) -> None:
    """Print *ratios* and the machine."""
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    if as_json:
        print(json.dumps({"ratios": ratios, "machine": machine}, indent=1))
        return
    for what, found in ratios.items():
        verdict = "holds" if found["holds"] else "FAILS"
        print(f"{what}: {found['value']} (goal {found['goal']}: {verdict})")
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
