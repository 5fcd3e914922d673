"""Which tests run which lines: recorded for each test file, and kept until something changes."""

from __future__ import annotations

import json
import re
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mutating import server
from mutating.output import note, say
from mutating.sites import PACKAGE, Mutant, digest, room_of
from mutating.testing import trace

FORMAT = "2"
CACHE = ".mutate_cache"
SECONDS = 1800.0
"""Processor time after which the tests of one file are given up on the unchanged package."""


class CoverageMap:
    """The lines, outcome and processor time of every test below some paths."""

    def __init__(self, root: Path, paths: list[str]) -> None:
        """Find the test files, and read what the cache has about them."""
        self.root, self.home = root, root / CACHE / "coverage"
        self.home.mkdir(parents=True, exist_ok=True)
        package = sorted((root / PACKAGE).rglob("*.py"))
        beside = [f for f in sorted((root / "tests").rglob("*")) if f.is_file()]
        apart = re.compile(r"/test_\w*\.py$|/__pycache__/|/equivalents\.toml$")
        shared = [f for f in beside if not apart.search(str(f))]
        state = digest(FORMAT, sys.version, *(f"{f}{f.read_bytes()!r}" for f in shared))
        self.package = {str(f.relative_to(root)): digest(f.read_text()) for f in package}
        files = [f for f in beside if f.match("test_*.py")]
        files += [f for f in package if re.search("^ *>>> ", f.read_text(), re.MULTILINE)]
        wanted = [(root / path).resolve() for path in paths or ["."]]
        self.keys = {
            str(file.relative_to(root)): digest(state, file, file.read_text())
            for file in files
            if any(path == file or path in file.parents for path in wanted)
        }
        cached = {file: self._cached(file) for file in self.keys}
        traces = {f: json.loads(path.read_text()) for f, path in cached.items() if path.exists()}
        self.traces = {
            f: t for f, t in traces.items() if t["package"].items() <= self.package.items()
        }
        self.unreliable: set[str] = set()
        """Tests that were found, during the run, to fail without a mutant."""

    def basis(self, file: str, tests: list[str]) -> str:
        """Return a hash of what decides how *tests* of a file end: they, and all that they run."""
        return digest(self.keys[file], sorted(self.traces[file]["package"].items()), *tests)

    def _cached(self, file: str) -> Path:
        return self.home / f"{self.keys[file]}.json"

    def complete(self, slots: list[server.Slot]) -> None:
        """Record the files that the cache lacks, the longest first."""
        missing = self.keys.keys() - self.traces.keys()
        left = sorted(missing, key=lambda file: (self.root / file).stat().st_size)
        again: deque[server.Task] = deque()

        def take() -> server.Task | None:
            if again:
                return again.popleft()
            if not left:
                return None
            file = left.pop()
            note(f"coverage of {file}; {len(left)} files left")
            return _task(file, [], True, partial(first, file))

        def first(file: str, result: dict[str, Any]) -> None:
            if result["status"] in (0, 5):
                self._keep(file, result)
                return
            tests = result.get("tests", {})
            failed = [test for test, entry in tests.items() if not entry["passed"]]
            # Measuring the processes that tests start slows them too much for some tests.
            again.append(_task(file, failed, False, partial(second, file, result)))

        def second(file: str, before: dict[str, Any], result: dict[str, Any]) -> None:
            if result["status"] not in (0, 1):
                why = result.get("why", f"pytest ended with {result['status']}")
                say(f"{file}: left out, its tests cannot be run: {why}")
                return
            if before["status"] == 1:
                for test, entry in result["tests"].items():
                    if entry["passed"]:
                        before["tests"][test].update(passed=True, ran=entry["ran"])
                result = before
            self._keep(file, result)

        server.run_all(slots, take)

    def _keep(self, file: str, result: dict[str, Any]) -> None:
        result["package"] = {f: self.package[f] for f, lines in result["lines"].items() if lines}
        self._cached(file).write_text(json.dumps(result))
        self.traces[file] = result

    def failing(self) -> list[str]:
        """Return the tests that fail on the unchanged package."""
        tests = {t: entry for found in self.traces.values() for t, entry in found["tests"].items()}
        failed = {test for test, entry in tests.items() if not entry["passed"]}
        return sorted(failed | self.unreliable)

    def tests_of(self, mutant: Mutant, limit: float) -> dict[str, float]:
        """Return the tests that can notice *mutant*, in order, and their processor time.

        These are the tests that run its lines; if it runs at import, those that run any line of its
        file, and all of its room. The room's own tests come first, then the quickest, up to *limit*
        seconds. A fixture that several tests share is paid by the first of them.
        """
        room = room_of(mutant.file)
        found = []
        for file, traced in self.traces.items():
            own = room_of(file) == room
            lines = traced["lines"].get(mutant.file, {})
            reached = lines if mutant.at_import else map(str, mutant.lines)
            numbers = {number for line in reached for number in lines.get(line, ())}
            for number, (test, entry) in enumerate(traced["tests"].items()):
                usable = entry["passed"] and entry["ran"] and test not in self.unreliable
                if usable and (number in numbers or (own and mutant.at_import)):
                    fixtures = {f: traced["fixtures"].get(f, 0.0) for f in entry["fixtures"]}
                    cost = entry["seconds"] + sum(fixtures.values())
                    found.append((not own, cost, test, entry["seconds"], fixtures))
        chosen: dict[str, float] = {}
        total, ready = 0.0, set[str]()
        for _, _, test, seconds, fixtures in sorted(found, key=lambda row: row[:3]):
            cost = seconds + sum(s for name, s in fixtures.items() if name not in ready)
            if not chosen or total + cost <= limit:
                total += cost
                ready |= fixtures.keys()
                chosen[test] = cost
        return chosen


def _task(
    file: str, tests: list[str], processes: bool, done: Callable[[dict[str, Any]], None]
) -> server.Task:
    run = partial(trace, file=file, tests=tests, processes=processes)
    return server.Task(run, SECONDS, done)
