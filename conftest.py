"""What the examples in docstrings may use without making it.

`sm` is soupmerge; `net` a small network of digits, and `ingredients` two checkpoints near it;
`train` 60 images; `val` a benchmark of 40 others under one cheap attack; `out` an empty folder.
"""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def example_values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the values that all examples share, which are made once."""
    import torch

    import soupmerge as sm

    home, spec = tmp_path_factory.mktemp("examples"), "digits-cnn?width=2"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = sm.model(spec)
        for name in ("a", "b"):
            near = {
                key: tensor + 0.02 * torch.rand_like(tensor)
                if tensor.is_floating_point()
                else tensor
                for key, tensor in net.state_dict().items()
            }
            sm.save(home / f"{name}.safetensors", near, model=spec)
    attack = sm.APGD(sm.Linf(0.1), steps=2)
    return {
        "sm": sm,
        "net": net,
        "ingredients": sm.load(home / "a.safetensors", home / "b.safetensors"),
        "train": sm.data("digits", split="train", limit=60),
        "val": sm.Benchmark(sm.data("digits", split="val", limit=40), [attack], name="val"),
    }


@pytest.fixture(autouse=True)
def _names_of_examples(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        doctest_namespace |= request.getfixturevalue("example_values")
        doctest_namespace["out"] = request.getfixturevalue("tmp_path")
