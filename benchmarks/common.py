"""What all benchmarks share: options, timing of whole processes, the form of the answer."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any


def options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return what was given, of the options of *parser* and those that all benchmarks have."""
    parser.add_argument("--quick", action="store_true", help="answer in under 5 minutes")
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


def peak(command: Sequence[str]) -> int:
    """Return the peak resident memory of a whole process, in bytes."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command} ended with {child.returncode}")
    return usage.ru_maxrss * 1024


def in_turn(*commands: Sequence[str], times: int) -> list[float]:
    """Return the median wall time of each of *commands*, run in turn, after one run unmeasured."""
    rounds = [[seconds(command) for command in commands] for _ in range(times + 1)]
    return [statistics.median(column) for column in zip(*rounds[1:], strict=True)]


def ratio(value: float, goal: str) -> dict[str, Any]:
    """Return a measured ratio beside its goal, written ``<= 2``."""
    sign, limit = goal.split()
    holds = value <= float(limit) if sign == "<=" else value >= float(limit)
    return {"value": round(value, 3), "goal": goal, "holds": holds}


def answer(ratios: dict[str, dict[str, Any]], *, as_json: bool) -> None:
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


PYTHON = sys.executable
