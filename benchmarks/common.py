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


def options(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="answer in under 5 minutes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


def seconds(command: Sequence[str], **kwargs: Any) -> float:
    """Return the wall time of a whole process, which must end well."""
    began = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kwargs
    )
    return time.perf_counter() - began


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
