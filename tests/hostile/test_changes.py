"""Row A53: an ingredient that is changed, cut or gone between two looks at it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import soupmerge as sm
from soupmerge.errors import InputError
from soupmerge.weights.saving import mix_to_file
from tests.hostile.rows import save

CHANGES: dict[str, Callable[[Path], object]] = {
    "other numbers": lambda path: save(path, seed=9),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-4]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "touched": lambda path: path.write_bytes(path.read_bytes()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_changes_meanwhile_is_refused(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    paths = [save(tmp_path / f"{seed}.safetensors", seed=seed) for seed in range(2)]
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"an earlier soup")
    ingredients = sm.load(*paths)
    recipe = sm.Recipe.uniform(ingredients)
    change(paths[1])
    with pytest.raises(InputError, match=r"1\.safetensors.*; \w"):
        mix_to_file(out, ingredients, recipe, force=True)
    assert out.read_bytes() == b"an earlier soup"
    assert sorted(tmp_path.glob(".*")) == []
