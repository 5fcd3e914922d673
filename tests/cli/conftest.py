"""Small files that commands are typed about, made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.exports.folder import export
from tests.shared import near

NETWORK = "digits-cnn?width=2"
Rows = list[dict[str, str]]


@pytest.fixture(scope="session")
def larder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three ingredients, a recipe, a finished grid, an export and a front.

    ``a.safetensors`` and so on are near one base, and name their network. ``grid`` judged the
    soups of a and b at a step of 1/2, on eight images and against one threat.
    """
    home = tmp_path_factory.mktemp("larder")
    base = sm.model(NETWORK)
    for seed, name in enumerate("abc"):
        sm.save(home / f"{name}.safetensors", near(base, seed), model=NETWORK)
    ingredients = sm.load(home / "a.safetensors", home / "b.safetensors")
    (home / "recipe.json").write_text(json.dumps(sm.Recipe.of(ingredients, [0.25, 0.75]).to_json()))
    images = sm.data("digits", split="val", limit=8)
    judge = sm.Benchmark(images, [sm.APGD(sm.Linf(0.1), steps=1)], name="val")
    sm.grid(base, ingredients, judge, step=0.5, run=sm.Run(home / "grid"))
    export(home / "export", home / "grid" / "soup.safetensors")
    logits = np.log([[[0.9, 0.1]], [[0.2, 0.8]]]).astype(np.float32)
    recipe = sm.Recipe.uniform(ingredients)
    front = sm.Front(("clean", "linf:0.1"), "softmax-linear", {"logits": logits}, recipe)
    (home / "front").mkdir()
    (home / "front" / "front.json").write_text(json.dumps(front.to_json()))
    return home


@pytest.fixture
def ingredients(larder: Path) -> list[Path]:
    return [larder / f"{name}.safetensors" for name in "abc"]


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Rows]]:
    """Return what gives the tables that were printed last, as rows by the names of columns."""
    seen: list[Rows] = []
    table = show.table

    def noted(headers: Any, rows: Any, title: str = "") -> None:
        seen.append([dict(zip(headers, map(str, row), strict=True)) for row in rows])
        table(headers, rows, title)

    def printed(said: Any) -> list[Rows]:
        found = [
            rows for rows in seen if all(cell in said.out for r in rows for cell in r.values())
        ]
        seen.clear()
        assert found, "a table was printed"
        return found

    monkeypatch.setattr(show, "table", noted)
    return printed
