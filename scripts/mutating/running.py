"""The run as a whole: which tests run what, the changes, and the table."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, deque
from functools import partial
from pathlib import Path
from typing import Any

from mutating import server
from mutating.sites import (
    PACKAGE,
    ROOMS,
    Equivalents,
    Mutant,
    digest,
    preloaded,
    room_of,
    sample,
    sites,
)
from mutating.testing import run_chosen, trace

CACHE = ".mutate_cache"
VERDICTS = ["caught", "timed out", "survived", "not covered", "equivalent"]
TRACE_LIMIT = 1800.0


class Cover:
    """Which tests run which lines, kept for each file of tests."""

    def __init__(self, root: Path, paths: list[str]) -> None:
        """Look for test files below *paths*, and for what is known of them."""
        self.root, self.home = root, root / CACHE / "cover"
        self.home.mkdir(parents=True, exist_ok=True)
        (root / CACHE / ".gitignore").write_text("*\n")
        package = sorted((root / PACKAGE).rglob("*.py"))
        beside = [f for f in sorted((root / "tests").rglob("*")) if f.is_file()]
        shared = [f for f in beside if not re.search(r"test_\w*\.py$|__pycache__", str(f))]
        shared += [root / "pyproject.toml", Path(__file__).with_name("testing.py")]
        state = digest(sys.version, *(f"{f}{f.read_bytes()!r}" for f in package + shared))
        doctests = [f for f in package if re.search("^ *>>> ", f.read_text(), re.MULTILINE)]
        found = [f for f in (*beside, *doctests) if f in doctests or f.match("test_*.py")]
        wanted = [(root / path).resolve() for path in paths]
        self.keys: dict[str, str] = {}
        for file in found:
            if not wanted or any(w == file or w in file.parents for w in wanted):
                self.keys[str(file.relative_to(root))] = digest(state, file, file.read_text())
        self.known: dict[str, Any] = {}
        for file, key in self.keys.items():
            path = self.home / f"{key}.json"
            if path.exists():
                self.known[file] = json.loads(path.read_text())
        self.bad: set[str] = set()

    def learn(self, slots: list[server.Slot]) -> None:
        """Run the files of which nothing is known, the longest first."""
        left = sorted(self.keys.keys() - self.known.keys(), key=self._size)
        again: deque[server.Task] = deque()

        def take() -> server.Task | None:
            if again:
                return again.popleft()
            if not left:
                return None
            file = left.pop()
            note(f"coverage: {file}, {len(left)} files to go")
            return self._trace(file, [], True, partial(keep, file, None))

        def keep(file: str, first: Any, found: Any) -> None:
            sane = isinstance(found, dict) and found["status"] in (0, 1, 5)
            failed = [t for t, told in found["tests"].items() if not told["passed"]] if sane else []
            if first is None and (failed or not sane):
                # Measured processes are slow, and some tests go by the clock: those get a chance.
                first = found if sane else {}
                again.append(self._trace(file, failed, False, partial(keep, file, first)))
                return
            if first:
                for test, told in found["tests"].items() if sane else ():
                    if told["passed"]:
                        first["tests"][test].update(passed=True, ran=told["ran"])
                found = first
            elif not sane:
                say(f"{file}: left out, its tests cannot be run: {found}")
                return
            (self.home / f"{self.keys[file]}.json").write_text(json.dumps(found))
            self.known[file] = found

        server.run_all(slots, take)

    @staticmethod
    def _trace(file: str, tests: list[str], processes: bool, done: Any) -> server.Task:
        run = partial(trace, file=file, tests=tests, processes=processes)
        return "", "", run, TRACE_LIMIT, done

    def _size(self, file: str) -> int:
        return (self.root / file).stat().st_size

    def failing(self) -> list[str]:
        """Return the tests that fail on the unchanged package."""
        told = [(t, has) for found in self.known.values() for t, has in found["tests"].items()]
        return sorted({test for test, has in told if not has["passed"]} | self.bad)

    def tests_of(self, mutant: Mutant, limit: float) -> dict[str, float]:
        """Return the tests that can notice *mutant* and their seconds, first the room's own.

        Of a line that runs at import, these are the tests of its room, and all that run some
        line of its file.
        """
        room, chosen = room_of(mutant.file), {}
        for file, found in self.known.items():
            lines = found["lines"].get(mutant.file, {})
            reach = (
                lines if mutant.imported else map(str, range(mutant.lines[0], mutant.lines[1] + 1))
            )
            numbers = {number for line in reach for number in lines.get(line, ())}
            for number, (test, told) in enumerate(found["tests"].items()):
                own = room_of(file) == room
                sound = told["passed"] and told["ran"] and test not in self.bad
                if sound and (number in numbers or (own and mutant.imported)):
                    shared = {n: found["fixtures"].get(n, 0.0) for n in told["fixtures"]}
                    cost = told["seconds"] + sum(shared.values())
                    chosen[test] = (not own, cost, test, told["seconds"], shared)
        kept: dict[str, float] = {}
        spent, ready = 0.0, set()
        for _, _, test, seconds, shared in sorted(chosen.values(), key=lambda c: c[:3]):
            cost = seconds + sum(s for name, s in shared.items() if name not in ready)
            if not kept or spent + cost <= limit:
                spent += cost
                ready |= shared.keys()
                kept[test] = cost
        return kept


class Run:
    """Verdicts on a sample of changes; those known from before are kept while they hold."""

    def __init__(self, cover: Cover, limit: float, equivalents: Equivalents, check: bool) -> None:
        """Take what decides about verdicts, and read those of earlier runs."""
        self.cover, self.limit, self.equivalents, self.check = cover, limit, equivalents, check
        self.path = cover.root / CACHE / "results.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.before = {told["id"]: told for told in map(_record, lines) if told}
        self.found: dict[Mutant, dict[str, Any]] = {}
        self.sound: set[str] = set()
        self.queue: deque[server.Task] = deque()

    def judge(self, mutants: list[Mutant], slots: list[server.Slot], until: float) -> None:
        """Find a verdict for each of *mutants*, in this order, until the time is up."""
        left = deque(mutants)

        def take() -> server.Task | None:
            while not self.queue and left and time.monotonic() < until:
                self._ask(left.popleft())
                counts = Counter(told["verdict"] for told in self.found.values())
                told = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])
                note(f"{len(left)} changes to go; {told}")
            return self.queue.popleft() if self.queue else None

        server.run_all(slots, take)

    def _ask(self, mutant: Mutant) -> None:
        reason = self.equivalents.reason(mutant)
        if reason is not None and not self.check:
            self.found[mutant] = {"verdict": "equivalent", "reason": reason}
            return
        tests = self.cover.tests_of(mutant, self.limit)
        if not tests:
            self.found[mutant] = {"verdict": "not covered"}
            return
        files = dict.fromkeys(test.split("::")[0] for test in tests)
        under = {
            f: digest(self.cover.keys[f], *(t for t in tests if t.startswith(f))) for f in files
        }
        told = self.before.get(digest(mutant.name, mutant.mutated), {"verdict": None, "under": {}})
        held = {file for file in under if told["under"].get(file) == under[file]}
        if told["verdict"] == "survived":
            tests = {test: s for test, s in tests.items() if test.split("::")[0] not in held}
        same = told["by"].split("::")[0] in held if told.get("by") else told["under"] == under
        if not tests or (told["verdict"] in ("caught", "timed out") and same):
            self._note(mutant, told)
            return
        limit = 15 + 4 * sum(tests.values())
        done = partial(self._judged, mutant, under, list(tests))
        self.queue.append(
            (mutant.file, mutant.mutated, partial(run_chosen, tests=list(tests)), limit, done)
        )

    def _judged(self, mutant: Mutant, under: dict[str, str], tests: list[str], found: Any) -> None:
        told: dict[str, Any] = {"verdict": "caught", "by": "", "under": under}
        if found == "timed out":
            told["verdict"] = found
        elif found["status"] in (0, 5):
            told["verdict"] = "survived"
        elif (test := found["failed"]) in tests:
            told["by"] = test
            if test not in self.sound:  # would it fail without the change, after the same tests?
                before = tests[: tests.index(test) + 1]
                done = partial(self._checked, mutant, told, test)
                self.queue.append(("", "", partial(run_chosen, tests=before), TRACE_LIMIT, done))
                return
        self._note(mutant, told)

    def _checked(self, mutant: Mutant, told: dict[str, Any], test: str, found: Any) -> None:
        if isinstance(found, dict) and found["status"] == 0:
            self.sound.add(test)
            self._note(mutant, told)
        else:
            self.cover.bad.add(test)
            self._ask(mutant)

    def _note(self, mutant: Mutant, told: dict[str, Any]) -> None:
        told = {**told, "id": digest(mutant.name, mutant.mutated)}
        if told != self.before.get(told["id"]):
            with self.path.open("a") as file:
                file.write(json.dumps(told) + "\n")
        reason = self.equivalents.reason(mutant)
        if reason is not None:
            if told["verdict"] != "survived":
                say(f"listed as equivalent, but {told['verdict']} by {told['by']}\n{mutant.diff()}")
            told = {**told, "verdict": "equivalent", "reason": reason}
        self.found[mutant] = told


def _record(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:  # cut off by a kill
        return None


def table(rooms: list[str], run: Run, sites_of: Counter[str]) -> tuple[str, dict[str, Any]]:
    """Return the table of verdicts by room, and its numbers."""
    rows, numbers = [["room", "sites", "changes", *VERDICTS, "score"]], {}
    for room in (*rooms, "all"):
        of = [t["verdict"] for m, t in run.found.items() if room in (room_of(m.file), "all")]
        counts = Counter(of)
        judged = len(of) - counts["equivalent"]
        score = (counts["caught"] + counts["timed out"]) / judged if judged else None
        total = sum(sites_of[r] for r in rooms) if room == "all" else sites_of[room]
        numbers[room] = {"sites": total, "changes": len(of), **counts, "score": score}
        shown = "" if score is None else f"{100 * score:.1f}%"
        rows.append([room, total, len(of), *(counts[v] for v in VERDICTS), shown])
    wide = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            str(c).rjust(w) if i else str(c).ljust(w)
            for i, (c, w) in enumerate(zip(row, wide, strict=True))
        )
        for row in rows
    ]
    return "\n".join(lines), numbers


def show(run: Run) -> None:
    """Print what no test noticed, and the equivalents with their reasons."""
    for mutant, told in run.found.items():
        if told["verdict"] in ("survived", "not covered", "equivalent"):
            tests = list(run.cover.tests_of(mutant, run.limit))
            by = f"{len(tests)} tests, first {', '.join(tests[:3])}" if tests else "no test"
            why = f": {told['reason']}" if "reason" in told else f"; {by}"
            say(f"\n{room_of(mutant.file)}: {told['verdict']}{why}\n{mutant.diff()}", end="")


_said = [time.monotonic()]


def note(text: str) -> None:
    """Tell about progress: on a terminal on one line, else now and then."""
    if not sys.stderr.isatty():
        if text and time.monotonic() > _said[0] + 30:
            _said[0] = time.monotonic()
            print(text, file=sys.stderr)
    else:
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r{text[:width].ljust(width)}")
        sys.stderr.flush()


def say(text: str, end: str = "\n") -> None:
    """Print, on a line of its own."""
    note("")
    if sys.stderr.isatty():
        sys.stderr.write("\r")
    print(text, end=end, flush=True)


def main(doc: str, root: Path) -> None:
    """Read the command line, run, and print the table."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sample", type=int, default=300, metavar="N", help="changes, evenly from the rooms (300)")
    add("--seed", type=int, default=1, help="of the sample (1)")
    add("--room", action="append", choices=ROOMS, help="only this room; may be repeated")
    add("--files", nargs="+", default=[], metavar="PATH", help="only changes of these files")
    add("--tests", nargs="+", default=[], metavar="PATH", help="only these may notice (all)")
    add("--limit", type=float, default=60, metavar="S", help="seconds of tests for a change (60)")
    add("--minutes", type=float, default=1e9, metavar="M", help="start no more changes after M")
    add("-j", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (one a core)")
    add("--show", action="store_true", help="print what was not noticed, as diffs")
    add("--check-equivalents", action="store_true", help="test the listed equivalents too")
    add("--json", type=Path, metavar="FILE", help="write the numbers of the table")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    rooms = [room for room in ROOMS if room in (given.room or ROOMS)]
    equivalents = Equivalents(root / "tests" / "equivalents.toml")
    mutants: list[Mutant] = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        file = str(path.relative_to(root))
        if room_of(file) in rooms and (not given.files or file in given.files):
            note(f"changes of {file}")
            mutants += sites(file, path.read_text())
    chosen = sample(mutants, rooms, given.sample, given.seed)
    cover = Cover(root, given.tests)
    run = Run(cover, given.limit, equivalents, given.check_equivalents)
    home = Path(tempfile.mkdtemp(prefix="mutate-"))
    server.HEAVY += preloaded(root)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        slots = [server.Slot(root, home / str(i)) for i in range(given.j)]
        cover.learn(slots)
        run.judge(chosen, slots, until)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if given.show:
        show(run)
    for test in cover.failing():
        say(f"left out, as it fails on the unchanged package: {test}")
    for entry in equivalents.stale(root):
        say(f"tests/equivalents.toml: no longer in {entry['file']}: {entry['old']!r}")
    text, numbers = table(rooms, run, Counter(room_of(m.file) for m in mutants))
    if len(run.found) < len(chosen):
        say(f"{len(chosen) - len(run.found)} of {len(chosen)} changes have no verdict yet")
    say(text)
    if given.json:
        given.json.write_text(json.dumps(numbers, indent=2) + "\n")
