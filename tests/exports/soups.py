"""A soup of two networks, whose files lie beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import soupmerge as sm
from soupmerge.weights.saving import mix_to_file
from tests.shared import near

TIMM = "timm:test_resnet?num_classes=5&mean=0.5,0.4,0.3&std=0.2,0.2,0.1"
VIT = "timm:test_vit?num_classes=5&img_size=96"


def soup_of(ref: str, home: Path, *, dtype: str | None = None, **policy: Any) -> Path:
    """Return a soup of two networks *ref*, mixed by *policy*."""
    base = sm.model(ref)
    for seed, name in enumerate(("a", "b"), start=1):
        sm.save(home / f"{name}.safetensors", near(base, seed), model=base.soupmerge_ref)
    ingredients = sm.load(home / "a.safetensors", home / "b.safetensors")
    rows = policy.pop("rows", [0.25, 0.75])
    mix_to_file(
        home / "soup.safetensors",
        ingredients,
        sm.Recipe.of(ingredients, rows, dtype=dtype, **policy),
    )
    return home / "soup.safetensors"
