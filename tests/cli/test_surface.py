"""Commands, options, defaults and keys of JSON are those on record, but for changes named here.

`surface.json` was recorded before the command line was rewritten, and is never recorded again: a
change that is meant is named below, with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.surface import LINES, keys, make_files, options

Typed = Callable[..., Any]
RECORD = json.loads((Path(__file__).parent / "surface.json").read_text())

RENAMED = {
    ("grid", "--best"): "--metric",
    ("path", "--best"): "--metric",
    ("select", "--max"): "--metric",
}
"""Command and option → its new name: one word for the metric. The old names are still accepted."""

NEW_ATTACKS = {
    "pgd-ce",
    "pgd-dlr",
    "pgd-margin",
    "apgd-ce",
    "apgd-margin",
    "apgd-dlr-t",
    "apgd-margin-t",
}
"""Attacks that were added: PGD and APGD with any loss."""

COST = (".cost", ".cost.gradient_evaluations", ".cost.forward_evaluations", ".cost.seconds")
NEW_KEYS: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("grid", "greedy", "path", "search", "adapt"), COST
)
"""Command → keys that were added: searches say what they cost, as eval did before."""

RESPELT = {"manifest.inputs[].forward passes": "manifest.inputs[].forward_passes"}
"""Key → its new spelling: ensembles had two for one thing, in manifests and in eval --json."""


def test_commands_and_options_are_those_on_record() -> None:
    wanted: dict[str, dict[str, Any]] = {}
    for command, known in RECORD["options"].items():
        wanted[command] = {}
        for name, described in known.items():
            new = RENAMED.get((command, name))
            if new:
                described = {**described, "opts": [new, name]}
            wanted[command][new or name] = described
    found = options()
    for command in found.values():
        if attack := command.get("--attack"):
            attack["type"]["choices"] = sorted(set(attack["type"]["choices"]) - NEW_ATTACKS)
    for command in wanted.values():
        if attack := command.get("--attack"):
            attack["type"]["choices"] = sorted(attack["type"]["choices"])
    assert list(found) == list(wanted)
    for command in wanted:
        assert found[command] == wanted[command], command


def test_json_has_the_keys_on_record(
    soupmerge: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path)
    assert set(LINES) == set(RECORD["keys"])
    for line in sorted(LINES, key=lambda line: not line.startswith("grid")):  # others read the grid
        said = soupmerge(*line.split(), "--json")
        assert said.status in (0, 1), said.err
        found = set(keys(json.loads(said.out)))
        manifest = Path(line.partition(" -o ")[2].partition(" ")[0] or "none", "manifest.json")
        if manifest.exists():
            found |= set(keys(json.loads(manifest.read_text()), "manifest"))
        wanted = {RESPELT.get(key, key) for key in RECORD["keys"][line]}
        assert found == wanted | set(NEW_KEYS.get(line.split()[0], ())), line
