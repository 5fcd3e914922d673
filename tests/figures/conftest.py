"""Runs of every kind, made once for all tests of figures."""

from __future__ import annotations

import pytest

from tests.figures.planted import Runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))
