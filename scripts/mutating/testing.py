"""What happens in a fork: pytest, once to learn which test runs which lines, then on changes."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

OPTIONS = ["-n", "0", "-p", "no:cacheprovider", "--assert=plain", "--tb=line", "-q", "--no-header"]
TRACE = """
[run]
source = {tree}/soupmerge
parallel = true
data_file = {home}/traces/part
context = ${{PYTEST_CURRENT_TEST-}}
patch = _exit, fork
disable_warnings = no-data-collected, module-not-measured, module-not-imported
"""


def spent() -> float:
    """Return seconds of processor time, which do not depend on what else the machine does."""
    return sum(os.times()[:4])


class Chosen:
    """Runs tests in the order chosen, if any are, with the same examples each time."""

    def __init__(self, home: Path, tests: list[str]) -> None:
        """Take a folder for notes, and the names of the tests."""
        self.home = home
        self.rank, self.failed = {test: i for i, test in enumerate(tests)}, ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Load a profile after the conftest's; what fails need not be shrunk."""
        if "hypothesis" in sys.modules:
            from hypothesis import Phase, settings

            fixed = {"derandomize": True, "database": None}
            phases = (Phase.explicit, Phase.generate)
            settings.register_profile("mutate", settings(), phases=phases, **fixed)
            settings.load_profile("mutate")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Drop all other tests, and sort."""
        if self.rank:
            items[:] = [item for item in items if item.nodeid in self.rank]
            items.sort(key=lambda item: self.rank[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note which test runs, in case that it takes the process down."""
        (self.home / "running").write_text(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        if report.failed:
            self.failed = self.failed or report.nodeid


def run_chosen(home: Path, tests: list[str]) -> dict[str, Any]:
    """Run tests until one fails; return pytest's status and the one that failed."""
    files = list(dict.fromkeys(test.split("::")[0] for test in tests))
    chosen = Chosen(home, tests)
    words = [*OPTIONS, "-x", f"--basetemp={home / 'tmp'}", *files]
    return {"status": int(pytest.main(words, plugins=[chosen])), "failed": chosen.failed}


class Tracer(Chosen):
    """Notes for each test its time, whether it passed, its lines, and those of its fixtures."""

    def __init__(self, coverage: Any, home: Path, tests: list[str]) -> None:
        """Take a coverage measurement that runs."""
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
        """Measure a fixture that several tests share, for all of them."""
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
        """Note what came of a test."""
        told = self.tests[report.nodeid]
        told["passed"] &= not report.failed
        told["ran"] |= report.when == "call" and not report.skipped

    def tests_of(self, context: str) -> list[str]:
        """Return the tests to which lines of a context count."""
        started = re.fullmatch(r"(.*) \((setup|call|teardown)\)", context, re.DOTALL)
        if started and started[2] == "setup":  # of a process that may serve several tests
            return list(self.tests)
        if started:
            return [started[1]]
        if context.startswith("fixture "):
            name = context.removeprefix("fixture ")
            return [test for test, told in self.tests.items() if name in told["fixtures"]]
        return [context] if context in self.tests else []


def trace(home: Path, file: str, tests: list[str], processes: bool) -> dict[str, Any]:
    """Run *tests* of one file, or all; return what *Tracer* notes, with lines by file.

    Lines that run in other *processes*, which tests start, can be measured too; this slows them.
    """
    from coverage import Coverage, CoverageData

    tree, parts = Path.cwd(), home / "traces"
    parts.mkdir(exist_ok=True)
    for old in parts.iterdir():
        old.unlink()
    options = home / "trace.ini"
    options.write_text(TRACE.format(tree=tree, home=home))
    if processes:
        os.environ["COVERAGE_PROCESS_START"] = str(options)
    coverage = Coverage(data_file=None, config_file=False, source=[str(tree / "soupmerge")])
    coverage.start()
    tracer = Tracer(coverage, home, tests)
    status = pytest.main([*OPTIONS, f"--basetemp={home / 'tmp'}", file], plugins=[tracer])
    coverage.stop()
    found = [coverage.get_data()]
    for part in parts.iterdir():
        data = CoverageData(str(part))
        with contextlib.suppress(Exception):  # cut off by a kill
            data.read()
            found.append(data)
    lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for data in found:
        for path in data.measured_files():
            name = str(Path(path).relative_to(tree))
            for line, contexts in data.contexts_by_lineno(path).items():
                for context in contexts:
                    lines[name][line].update(tracer.tests_of(context))
    numbers = {test: i for i, test in enumerate(tracer.tests)}
    packed = {
        name: {
            line: sorted(numbers[t] for t in tests if t in numbers) for line, tests in of.items()
        }
        for name, of in lines.items()
    }
    noted = {"tests": tracer.tests, "fixtures": dict(tracer.fixtures), "lines": packed}
    return {"status": int(status), **noted}
