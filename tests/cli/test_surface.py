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

NEW_COMMANDS = {"front", "data"}
"""Commands that were added."""

READING = ("--classes", "--scan", "--skip-broken", "--fingerprint")
"""Options that every command with --data has: its classes, and how stored images are read."""

JUDGING = (
    *("--data", "--split", "--limit", "--threat", "--attack", "--steps", "--only-union"),
    *("--attack-precision", "--autoattack-version", "--autoattack-attacks", "--model", "--mean"),
    *("--std", "--batch-size", "--device", "--seed", "-j"),
)
NEW_OPTIONS: dict[str, tuple[str, ...]] = {
    "mix": ("--at",),
    "eval": ("--at", "--column", "--beside"),
    "adapt": ("--column", "--beside"),
    "export": ("--at",),
    "select": (*JUDGING, *READING),
    "learn": ("--as-paper", "--optimiser"),
}
"""Command → options that were added: points of fronts, and the optimiser of coefficients."""

NO_LONGER_REQUIRED = {("eval", "--data"), ("adapt", "--data")}
"""Command and option: --column names data sets, too."""

NEW_DEFAULTS: dict[tuple[str, str], Any] = {
    ("learn", "--lr"): None,  # the optimiser's usual
    ("learn", "--dropout"): 0.0,
    ("learn", "--init"): "best",
}
"""Command and option → its new default: what learns better than the paper's, now --as-paper."""

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
NEW_SETTINGS = ("optimiser", "family", "scalarisation", "corners", "preferences")
NEW_KEYS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("grid", "greedy", "path", "search", "adapt"), COST),
    "learn": tuple(f"manifest.settings.{name}" for name in NEW_SETTINGS),
    "pull": ("[].preprocessing",),
}
"""Command → keys that were added: searches say what they cost, as eval did before, and learning
has settings that fronts need."""

OLD_KEYS: dict[str, tuple[str, ...]] = {
    "learn": ("manifest.decisions.detach dropout", "manifest.decisions.xavier")
}
"""Command → keys that are there --as-paper only."""

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
            if (command, name) in NEW_DEFAULTS:
                described = {**described, "default": NEW_DEFAULTS[command, name]}
            if (command, name) in NO_LONGER_REQUIRED:
                described = {**described, "required": False}
            wanted[command][new or name] = described
    found = {name: command for name, command in options().items() if name not in NEW_COMMANDS}
    for name, added in NEW_OPTIONS.items():
        for option in added:
            del found[name][option]
    for command in found.values():
        for option in READING if "--data" in command else ():
            command.pop(option)
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
        command = line.split()[0]
        wanted -= set(OLD_KEYS.get(command, ()))
        for key in NEW_KEYS.get(command, ()):
            if key.rpartition(".")[0] in {"", "[]", *wanted}:  # a sweep has no settings of its own
                wanted.add(key)
        assert found == wanted, line
