"""The run as a whole: mutants are drawn, the tests that cover them are run, scores are printed."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter, deque
from functools import partial
from pathlib import Path
from typing import Any

from mutating import server
from mutating.covering import CACHE, SECONDS, CoverageMap
from mutating.output import VERDICTS, note, say, scores, table
from mutating.sites import (
    PACKAGE,
    ROOMS,
    Equivalents,
    Mutant,
    preloaded,
    room_of,
    sample,
    sites,
)
from mutating.testing import run_chosen


class Run:
    """The verdicts on a sample of mutants; those of earlier runs are kept while they hold."""

    def __init__(
        self, coverage: CoverageMap, limit: float, equivalents: Equivalents, check: bool
    ) -> None:
        """Read the verdicts of earlier runs; *check* runs the listed equivalents as well."""
        self.coverage, self.limit = coverage, limit
        self.equivalents, self.check = equivalents, check
        self.path = coverage.root / CACHE / "results.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.earlier = {record["id"]: record for record in map(_record, lines) if record}
        self.verdicts: dict[Mutant, dict[str, Any]] = {}
        self.reliable: set[str] = set()
        self.queue: deque[server.Task] = deque()

    def judge(self, mutants: list[Mutant], slots: list[server.Slot], until: float) -> None:
        """Judge *mutants* in this order; start none after the time *until*."""
        left = deque(mutants)

        def take() -> server.Task | None:
            while not self.queue and left and time.monotonic() < until:
                self._start(left.popleft())
                counts = Counter(record["verdict"] for record in self.verdicts.values())
                known = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])
                note(f"{len(left)} mutants left; {known}")
            return self.queue.popleft() if self.queue else None

        server.run_all(slots, take)

    def _start(self, mutant: Mutant) -> None:
        reason = self.equivalents.reason(mutant)
        if reason is not None and not self.check:
            self.verdicts[mutant] = {"verdict": "equivalent", "reason": reason}
            return
        tests = self.coverage.tests_of(mutant, self.limit)
        if not tests:
            self.verdicts[mutant] = {"verdict": "not covered"}
            return
        by_file: dict[str, list[str]] = {}
        for test in tests:
            by_file.setdefault(_file(test), []).append(test)
        basis = {file: self.coverage.basis(file, of) for file, of in by_file.items()}
        earlier = self.earlier.get(mutant.id, {"verdict": "", "by": "", "basis": {}})
        same = {file for file in basis if earlier["basis"].get(file) == basis[file]}
        if earlier["verdict"] == "survived":  # only what is new can catch it
            tests = {test: cost for test, cost in tests.items() if _file(test) not in same}
            holds = not tests
        elif earlier["by"]:
            holds = _file(earlier["by"]) in same
        else:
            holds = earlier["basis"] == basis
        if holds:
            self._end(mutant, earlier)
            return
        done = partial(self._judged, mutant, basis, list(tests))
        run, limit = partial(run_chosen, tests=list(tests)), 15 + 4 * sum(tests.values())
        self.queue.append(server.Task(run, limit, done, mutant.file, mutant.mutated))

    def _judged(
        self, mutant: Mutant, basis: dict[str, str], tests: list[str], result: dict[str, Any]
    ) -> None:
        record = {"verdict": "caught", "by": result.get("failed", ""), "basis": basis}
        if result["status"] == server.LATE:
            record["verdict"] = "timed out"
        elif result["status"] in (0, 5):
            record["verdict"] = "survived"
        elif record["by"] in tests and record["by"] not in self.reliable:
            # Would it have failed without the mutant, too, after the same tests?
            before = tests[: tests.index(record["by"]) + 1]
            done = partial(self._confirmed, mutant, record)
            self.queue.append(server.Task(partial(run_chosen, tests=before), SECONDS, done))
            return
        self._end(mutant, record)

    def _confirmed(self, mutant: Mutant, record: dict[str, Any], result: dict[str, Any]) -> None:
        if result["status"] == 0:
            self.reliable.add(record["by"])
            self._end(mutant, record)
        else:
            self.coverage.unreliable.add(record["by"])
            self._start(mutant)

    def _end(self, mutant: Mutant, record: dict[str, Any]) -> None:
        record = {**record, "id": mutant.id}
        if record != self.earlier.get(mutant.id):
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")
        reason = self.equivalents.reason(mutant)
        if reason is not None:
            if record["verdict"] != "survived":
                by = record["by"] or record["verdict"]
                say(f"listed as equivalent, but noticed by {by}:\n{mutant.diff()}")
            record = {"verdict": "equivalent", "reason": reason}
        self.verdicts[mutant] = record

    def show(self) -> None:
        """Print the mutants that no test noticed, and the equivalents with their reasons."""
        for mutant, record in self.verdicts.items():
            if record["verdict"] in ("survived", "not covered", "equivalent"):
                tests = list(self.coverage.tests_of(mutant, self.limit))
                ran = f"{len(tests)} tests, such as {', '.join(tests[:3])}" if tests else "no test"
                why = record.get("reason", ran)
                say(f"{room_of(mutant.file)}: {record['verdict']}: {why}\n{mutant.diff()}")


def _record(line: str) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:  # cut short by a kill
        return None
    return record if "basis" in record else None


def _file(test: str) -> str:
    return test.split("::")[0]


def main(doc: str, root: Path) -> None:
    """Read the command line, run, and print the table."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, formatter_class=shape)
    add = parser.add_argument
    add("--sample", type=int, default=300, metavar="N", help="mutants, evenly from the rooms (300)")
    add("--seed", type=int, default=1, help="seed of the sample (1)")
    add("--room", action="append", choices=ROOMS, help="only this room; can be repeated")
    add("--files", nargs="+", default=[], metavar="PATH", help="mutate only these files")
    add("--tests", nargs="+", default=[], metavar="PATH", help="use only these tests")
    add("--limit", type=float, default=60, metavar="S", help="seconds of tests per mutant (60)")
    add("--minutes", type=float, default=1e9, metavar="M", help="start no mutant after M minutes")
    add("-j", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (one per core)")
    add("--show", action="store_true", help="print what no test noticed, as diffs")
    add("--check-equivalents", action="store_true", help="run the listed equivalents as well")
    add("--json", type=Path, metavar="FILE", help="write the numbers of the table")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    rooms = [room for room in ROOMS if room in (given.room or ROOMS)]
    equivalents = Equivalents(root / "tests" / "equivalents.toml")
    mutants: list[Mutant] = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        file = str(path.relative_to(root))
        if room_of(file) in rooms and (not given.files or file in given.files):
            note(f"mutants of {file}")
            mutants += sites(file, path.read_text())
    chosen = sample(mutants, rooms, given.sample, given.seed)
    coverage = CoverageMap(root, given.tests)
    run = Run(coverage, given.limit, equivalents, given.check_equivalents)
    server.HEAVY += preloaded(root)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    home = Path(tempfile.mkdtemp(prefix="mutate-")).resolve()
    try:
        slots = [server.Slot(root, home / str(i)) for i in range(given.j)]
        coverage.complete(slots)
        run.judge(chosen, slots, until)
    except KeyboardInterrupt:
        say("interrupted; the same command continues from here")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if given.show:
        run.show()
    for test in coverage.failing():
        say(f"left out, because it fails on the unchanged package: {test}")
    for entry in equivalents.stale(root):
        say(f"tests/equivalents.toml: no longer in {entry['file']}: {entry['old']}")
    if left := len(chosen) - len(run.verdicts):
        say(f"{left} of {len(chosen)} mutants have no verdict yet")
    counts = Counter(room_of(mutant.file) for mutant in mutants)
    verdicts = [(room_of(m.file), record["verdict"]) for m, record in run.verdicts.items()]
    numbers = scores(verdicts, {room: counts[room] for room in rooms})
    say(table(numbers))
    if given.json:
        given.json.write_text(json.dumps(numbers, indent=2) + "\n")
