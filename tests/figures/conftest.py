"""Runs of every kind, made once for all tests of figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from soupmerge.figures.page import writing
from tests.figures.planted import Runs
from tests.shared import browser


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the plotting library, whose five megabytes take a second to parse."""
    monkeypatch.setattr(writing, "_plotly", lambda: "a plotting library")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        yield found
        found.close()
