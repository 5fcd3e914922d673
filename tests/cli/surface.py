"""What scripts depend on: the commands, their options, and the keys of their JSON output."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import main
from tests.shared import near

Typed = Callable[..., Any]

DATA = "--data digits --limit 8"
JUDGED = f"{DATA} --threat linf:0.1 --steps 1"
LEARN = f"{DATA} --epochs 1 --augment none --eps 0"
TEST = "--judge-split test --judge-limit 8 --threat linf:0.1 --steps 1"
LINES = f"""
inspect a.safetensors grid/soup.safetensors
check a.safetensors b.safetensors
check a.safetensors b.safetensors {DATA} --points 3
check a.safetensors other.safetensors
mix a.safetensors b.safetensors -w uniform -o mixed.safetensors
mix a.safetensors b.safetensors -w uniform -o planned.safetensors --dry-run
mix a.safetensors b.safetensors -w 1,0 -o one.safetensors --export folder
grid a.safetensors b.safetensors {JUDGED} --step 0.5 -o grid
grid a.safetensors b.safetensors {JUDGED} --step 0.5 --race -o race
greedy a.safetensors b.safetensors {JUDGED} -o greedy
path a.safetensors b.safetensors {JUDGED} --points 3 -o path
search a.safetensors b.safetensors {JUDGED} -n 1 -o search
select grid
adapt a.safetensors b.safetensors {DATA} --shots 3 --step 1 -o adapted
learn a.safetensors b.safetensors {LEARN} {TEST} -o learned
learn a.safetensors b.safetensors {LEARN} {TEST} --seeds 2 -o sweep
eval a.safetensors {JUDGED}
eval a.safetensors b.safetensors {JUDGED}
eval a.safetensors b.safetensors {JUDGED} --ensemble prob -o ensemble
landscape a.safetensors b.safetensors c.safetensors {DATA} --points 2 -o plane
export a.safetensors -o exported
pull --list rb:cifar10/L2
""".strip().splitlines()

BY_NAME = {
    *("metrics", "best", "sets", "specific", "family", "spread", "gain", "weights", "baselines"),
    *("ingredients", "selection", "copied", "attacks", "notes"),
}
"""Keys of JSON objects whose own keys are names of metrics, files, groups and the like."""


def options() -> dict[str, dict[str, Any]]:
    """Return command → option → how it is typed: names, default, type and multiplicity."""
    found: dict[str, dict[str, Any]] = {}
    context = click.Context(main.cli, **main.cli.context_settings)
    for name in main.COMMANDS:
        command = main.cli.get_command(context, name)
        assert command is not None
        infos = (parameter.to_info_dict() for parameter in command.params)
        found[name] = {info["opts"][0]: _plain(info) for info in infos}
    return found


def _plain(info: dict[str, Any]) -> Any:
    kept = {key: info.get(key) for key in ("opts", "secondary_opts", "multiple", "required")}
    default = info.get("default")
    kept["default"] = default if isinstance(default, (str, int, float, bool)) else None
    kept["type"] = {key: info["type"].get(key) for key in ("choices", "min", "max")}
    return json.loads(json.dumps(kept, default=list))


def make_files(home: Path) -> None:
    """Write into *home* what the lines speak of."""
    base = sm.model("digits-cnn?width=2")
    for seed, name in enumerate("abc"):
        sm.save(home / f"{name}.safetensors", near(base, seed), model="digits-cnn?width=2")
    sm.save(home / "other.safetensors", sm.model("digits-cnn?width=4").state_dict())


def keys(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of all keys in JSON: ``.`` for objects, ``[]`` for lists."""
    if isinstance(value, dict):
        by_name = path.rpartition(".")[2] in BY_NAME
        for key, inner in value.items():
            here = f"{path}.{'*' if by_name else key}"
            yield here
            yield from keys(inner, here)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner, f"{path}[]")
