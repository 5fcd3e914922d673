"""Small files that commands are typed about, made once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import soupmerge as sm
from soupmerge.exports.folder import export
from tests.shared import near

NETWORK = "digits-cnn?width=2"


@pytest.fixture(scope="session")
def larder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three ingredients, a recipe, a grid that is done, and an export.

    ``a.safetensors`` and so on are near one base, and name their network. ``grid`` judged the
    soups of a and b at a step of 1/2, on eight images and against one threat.
    """
    home = tmp_path_factory.mktemp("larder")
    base = sm.model(NETWORK)
    for seed, name in enumerate("abc"):
        sm.save(home / f"{name}.safetensors", near(base, seed), model=NETWORK)
    pots = sm.load(home / "a.safetensors", home / "b.safetensors")
    (home / "recipe.json").write_text(json.dumps(sm.Recipe.of(pots, [0.25, 0.75]).to_json()))
    images = sm.data("digits", split="val", limit=8)
    judge = sm.Benchmark(images, [sm.APGD(sm.Linf(0.1), steps=1)], name="val")
    sm.grid(base, pots, judge, step=0.5, out=home / "grid")
    export(home / "export", home / "grid" / "soup.safetensors")
    return home
