"""Runs of every kind, made once for all tests of figures."""

from __future__ import annotations

import pytest

from soupmerge.figures.page import writing
from tests.figures.planted import Runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the plotting library, whose five megabytes take a second to parse."""
    monkeypatch.setattr(writing, "_plotly", lambda: "a plotting library")
