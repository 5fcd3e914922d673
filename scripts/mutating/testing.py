"""What runs in a fork: pytest, either to record coverage or to judge a mutant."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

OPTIONS = ["-n", "0", "-p", "no:cacheprovider", "--assert=plain", "--tb=line", "-q", "--no-header"]
OPTIONS_OF_COVERAGE = """
[run]
source = {tree}/soupmerge
parallel = true
data_file = {parts}/part
context = ${{PYTEST_CURRENT_TEST-}}
patch = _exit, fork
disable_warnings = no-data-collected, module-not-measured, module-not-imported
"""


def spent() -> float:
    """Return seconds of processor time, which do not depend on what else the machine does."""
    return sum(os.times()[:4])


class Chosen:
    """Runs the chosen tests, or all, in order, with the same examples every time."""

    def __init__(self, home: Path, tests: list[str]) -> None:
        """Take a folder for notes and the names of the tests, none for all."""
        self.home = home
        self.rank, self.failed = {test: i for i, test in enumerate(tests)}, ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Fix what hypothesis draws, on top of the conftest's profile; do not shrink."""
        if "hypothesis" in sys.modules:
            from hypothesis import Phase, settings

            fixed = {"derandomize": True, "database": None}
            phases = (Phase.explicit, Phase.generate)
            settings.register_profile("mutate", settings(), phases=phases, **fixed)
            settings.load_profile("mutate")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Drop all other tests and sort."""
        if self.rank:
            items[:] = [item for item in items if item.nodeid in self.rank]
            items.sort(key=lambda item: self.rank[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note which test runs, in case it takes the process down."""
        (self.home / "running").write_text(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        if report.failed:
            self.failed = self.failed or report.nodeid


def run_chosen(home: Path, tests: list[str]) -> dict[str, Any]:
    """Run tests until one fails; return pytest's exit status and the test that failed."""
    files = list(dict.fromkeys(test.split("::")[0] for test in tests))
    chosen = Chosen(home, tests)
    words = [*OPTIONS, "-x", f"--basetemp={home / 'tmp'}", *files]
    return {"status": int(pytest.main(words, plugins=[chosen])), "failed": chosen.failed}


class Tracer(Chosen):
    """Records the time and outcome of each test, and under which context its lines run."""

    def __init__(self, coverage: Any, home: Path, tests: list[str]) -> None:
        """Take a running coverage measurement."""
        super().__init__(home, tests)
        self.coverage = coverage
        self.tests: dict[str, dict[str, Any]] = {}
        self.fixtures: dict[str, float] = defaultdict(float)
        self.contexts = [""]
        self.aside = 0.0

    @contextlib.contextmanager
    def _context(self, name: str) -> Iterator[None]:
        self.contexts.append(name)
        self.coverage.switch_context(name)
        try:
            yield
        finally:
            self.contexts.pop()
            self.coverage.switch_context(self.contexts[-1])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Measure one test."""
        fixtures = getattr(item, "fixturenames", [])
        self.tests[item.nodeid] = {"passed": True, "ran": False, "fixtures": list(fixtures)}
        start, self.aside = spent(), 0.0
        with self._context(item.nodeid):
            result = yield
        self.tests[item.nodeid]["seconds"] = round(spent() - start - self.aside, 3)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        """Measure a fixture that several tests share under a context of its own."""
        if fixturedef.scope == "function":
            return (yield)
        start = spent()
        with self._context(f"fixture {fixturedef.argname}"):
            result = yield
        seconds = spent() - start
        self.fixtures[fixturedef.argname] += seconds
        self.aside += seconds
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the outcome of a test."""
        entry = self.tests[report.nodeid]
        entry["passed"] &= not report.failed
        entry["ran"] |= report.when == "call" and not report.skipped

    def tests_of(self, context: str) -> list[str]:
        """Return the tests that get credit for the lines of a context."""
        started = re.fullmatch(r"(.*) \((setup|call|teardown)\)", context, re.DOTALL)
        if started and started[2] == "setup":  # of a process that may serve several tests
            return list(self.tests)
        if started:
            return [test for test in [started[1]] if test in self.tests]
        if context.startswith("fixture "):
            name = context.removeprefix("fixture ")
            return [test for test, entry in self.tests.items() if name in entry["fixtures"]]
        return [context] if context in self.tests else []


def trace(home: Path, file: str, tests: list[str], processes: bool) -> dict[str, Any]:
    """Run *tests* of one file, or all; return what the tracer recorded, and the lines by file.

    With *processes*, lines that run in processes started by tests are recorded as well.
    """
    os.environ["COVERAGE_CORE"] = "ctrace"  # others do not tell contexts apart
    from coverage import Coverage, CoverageData

    tree, parts, options = Path.cwd(), home / "parts", home / "coverage.ini"
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    options.write_text(OPTIONS_OF_COVERAGE.format(tree=tree, parts=parts))
    if processes:
        os.environ["COVERAGE_PROCESS_START"] = str(options)
    coverage = Coverage(data_file=None, config_file=False, source=[str(tree / "soupmerge")])
    tracer = Tracer(coverage, home, tests)
    coverage.start()
    status = pytest.main([*OPTIONS, f"--basetemp={home / 'tmp'}", file], plugins=[tracer])
    coverage.stop()
    recorded = [coverage.get_data()]
    for part in parts.iterdir():
        data = CoverageData(str(part))
        with contextlib.suppress(Exception):  # cut short by a kill
            data.read()
            recorded.append(data)
    numbers = {test: i for i, test in enumerate(tracer.tests)}
    lines: dict[str, dict[int, list[int]]] = {}
    for data in recorded:
        for path in data.measured_files():
            of_file = lines.setdefault(str(Path(path).relative_to(tree)), {})
            for line, contexts in data.contexts_by_lineno(path).items():
                ran = {numbers[test] for context in contexts for test in tracer.tests_of(context)}
                of_file[line] = sorted(ran.union(of_file.get(line, ())))
    found = {"tests": tracer.tests, "fixtures": dict(tracer.fixtures), "lines": lines}
    return {"status": int(status), **found}
