"""What the tests of searches share."""

from __future__ import annotations

import pytest

from soupmerge.soups.judge import evaluator


@pytest.fixture
def unexamined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let searches raise no doubts of planted networks, which have no gradients."""
    monkeypatch.setattr(evaluator, "CHEAP", ())
