"""A family tree travels in the files: what made them, of what, and from which training runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import soupmerge as sm
from soupmerge.weights.lineage import DEEPEST, family_of, node_of, trained_apart
from soupmerge.weights.saving import mix_to_file

RUN_A, RUN_B = {"ref": "the run of a", "sha256": ""}, {"ref": "the run of b", "sha256": ""}


def noted(home: Path, name: str, notes: Any, value: float = 0.0) -> sm.Checkpoint:
    path = home / f"{name}.safetensors"
    found = {} if notes is None else {"soupmerge": json.dumps(notes)}
    safetensors.torch.save_file({"w": torch.full((2, 2), value)}, path, found)
    return sm.load(path)[0]


def test_a_soup_of_soups_tells_its_family(ingredients: sm.Ingredients, tmp_path: Path) -> None:
    mix_to_file(tmp_path / "soup.safetensors", ingredients, sm.Recipe.uniform(ingredients))
    both = sm.load(tmp_path / "soup.safetensors", ingredients[0].ref)
    groups = both.groups("block")
    rows = [[0.25, 0.75], *[[0.75, 0.25]] * (len(groups) - 1)]
    mix_to_file(tmp_path / "second.safetensors", both, sm.Recipe.of(both, rows, by="block"))
    second = sm.load(tmp_path / "second.safetensors")[0]
    tree = family_of(second)
    assert (tree.ref, tree.sha256, tree.made) == ("second.safetensors", second.sha256, "mix")
    mean = (0.25 + 0.75 * (len(rows) - 1)) / len(rows)
    assert tree.detail == f"{mean:.4g}, {1 - mean:.4g} (means over {len(rows)} groups)"
    assert [p.ref for p in tree.parents] == ["soup.safetensors", "a.safetensors"]
    assert [p.ref for p in tree.parents[0].parents] == [f"{n}.safetensors" for n in "abc"]
    assert tree.roots() == {c.sha256 for c in ingredients}
    hashes = [
        second.sha256,
        both[0].sha256,
        *(c.sha256 for c in ingredients),
        ingredients[0].sha256,
    ]
    a, b, c, d, e, f = (digest[:12] for digest in hashes)
    assert list(tree.lines()) == [
        f"second.safetensors ({a}): mix, {tree.detail}",
        f"├─ soup.safetensors ({b}): mix, 0.3333, 0.3333, 0.3333",
        f"│  ├─ a.safetensors ({c})",
        f"│  ├─ b.safetensors ({d})",
        f"│  └─ c.safetensors ({e})",
        f"└─ a.safetensors ({f})",
    ]


@pytest.mark.parametrize(
    ("notes", "made", "detail", "parents"),
    [
        (
            {"training": {"objective": {"threat": "linf:0.1", "steps": 2}}},
            *("train", "threat linf:0.1, steps 2", []),
        ),
        ({"training": {"base": {"ref": "b", "sha256": "1"}}}, "finetune", "", ["b"]),
        ({"training": {"base": {"ref": "b"}}, "family": [{"ref": "c"}]}, "finetune", "", ["c"]),
        ({"training": []}, "", "", []),
        ({"training": {"objective": 3}}, "train", "", []),
        (None, "", "", []),
    ],
)
def test_what_was_trained_tells_its_base_and_objective(
    tmp_path: Path, notes: Any, made: str, detail: str, parents: list[str]
) -> None:
    checkpoint = noted(tmp_path, "x", notes)
    tree = family_of(checkpoint)
    assert (tree.ref, tree.sha256) == ("x.safetensors", checkpoint.sha256)
    assert (tree.made, tree.detail) == (made, detail)
    assert [parent.ref for parent in tree.parents] == parents
    [line] = list(tree.lines())[:1]
    found = ", ".join(filter(None, (made, detail)))
    digest = checkpoint.sha256[:12]
    assert line == f"x.safetensors ({digest})" + (f": {found}" if found else "")


def test_a_soup_without_a_family_tells_the_sources_of_its_recipe(
    ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    recipe = sm.Recipe.uniform(ingredients).to_json()
    for family in (None, "text", [{"ref": "only one"}]):
        notes = {"recipe": recipe, "licence": "mit"} | ({"family": family} if family else {})
        node = node_of(noted(tmp_path, "x", notes))
        assert node["parents"] == [{"ref": c.ref, "sha256": c.sha256} for c in ingredients]
        assert node["licence"] == "mit"
    full = [{"ref": n, "sha256": n} for n in "xyz"]
    node = node_of(noted(tmp_path, "x", {"recipe": recipe, "family": full, "licence": 3}))
    assert node["parents"] == full
    assert "licence" not in node
    assert node["detail"] == "0.3333, 0.3333, 0.3333"
    site = sm.load(tmp_path / "x.safetensors")[0]
    assert node_of(dataclasses.replace(site, ref="timm:vit"))["ref"] == "timm:vit"


def test_a_tree_is_told_to_a_depth_and_may_be_anyone_s(tmp_path: Path) -> None:
    family: Any = [{"ref": "root"}]
    for i in range(2 * DEEPEST):
        family = [{"ref": f"{i}", "parents": family}]
    tree = family_of(noted(tmp_path, "x", {"training": {"base": {}}, "family": family}))
    assert len(list(tree.lines())) == DEEPEST + 1
    odd = [3, {"ref": [1], "sha256": None, "made": 4, "parents": "x"}, {}]
    tree = family_of(noted(tmp_path, "y", {"training": {"base": 1}, "family": odd}))
    assert [p.ref for p in tree.parents] == ["?", "[1]", "?"]
    assert [p.sha256 for p in tree.parents] == ["?", "None", "?"]
    assert tree.parents[1].made == "4"


def trained(run: dict[str, str], *more: dict[str, str]) -> dict[str, Any]:
    return {"training": {"base": run}, "family": [run, *more]}


def test_networks_are_apart_if_all_their_ancestry_goes_to_other_runs(tmp_path: Path) -> None:
    a, a2, b, both, half, silent = (
        noted(tmp_path, name, notes, float(i))
        for i, (name, notes) in enumerate(
            {
                "a": trained(RUN_A),
                "a2": trained(RUN_A),
                "b": trained(RUN_B),
                "both": trained(RUN_A, RUN_B),
                "half": trained(RUN_B, {"ref": "file", "sha256": "1"}),
                "silent": None,
            }.items()
        )
    )
    assert family_of(a).roots() == {"the run of a"}
    assert trained_apart([a, b]) == [f"{a.ref} and {b.ref} were trained apart, from scratch"]
    assert len(trained_apart([a, a2, b])) == 2
    for pair in ([a, a2], [a, both], [a, half], [a, silent], [silent, half], [a]):
        assert trained_apart(pair) == []
