"""Searches, sweeps, adaptations, pages and exports that cannot be meant, or find damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from soupmerge.cli.main import run as type_in
from tests.hostile.commands import FEW, two
from tests.hostile.rows import Row, Table

TABLE = Table()
PAIR = f"{{x}} {{home}}/y.safetensors {FEW}"
RUN = "-o {home}/run"


def add(
    id: str, status: int, line: str, *words: str, make: Callable[[Path], Any] = two, **more: Any
) -> None:
    TABLE.append(Row(id, make, status, words, (line,), **more))


def gridded(home: Path, edit: Callable[[Path], None] | None = None) -> Path:
    """Make a finished grid of two networks in ``run``, and perhaps do something to it."""
    path = two(home)
    words = f"grid {path} {home}/y.safetensors {FEW} --step 0.5 -o {home}/run".split()
    assert type_in(words) == 0
    if edit is not None:
        edit(home / "run")
    return path


def torn(run: Path) -> None:
    file = run / "trials.jsonl"
    file.write_bytes(file.read_bytes()[:-9])


def damaged(run: Path) -> None:
    lines = (run / "trials.jsonl").read_text().splitlines(keepends=True)
    lines[0] = lines[0].replace("weights", "weighty")
    (run / "trials.jsonl").write_text("".join(lines))


def of_others(run: Path) -> None:
    recipe = json.loads((run / "recipe.json").read_text())
    for source in recipe["ingredients"]:
        source["sha256"] = "0" * 64
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "best" / "clean.json").write_text(json.dumps(recipe))


def nothing_yet(run: Path) -> None:
    (run / "trials.jsonl").unlink()


# ---- B: soups that cannot be asked for

one = f"{{x}} {FEW} {RUN}"
for command in ("greedy", "path", "search"):
    add(f"B9 {command} of one", 2, f"{command} {one}", command if command == "path" else "two")
add("B9 a path of three", 2, f"path {{x}} {PAIR} {RUN}", "path", "exactly 2 ingredients, not 3")
add("B9 a search of no soups", 2, f"search {PAIR} -n 0 {RUN}", "-n")
add("B9 a method that is none", 2, f"search {PAIR} --method cmaes {RUN}", "cmaes", fix="")
add("B9 a sum that is none", 2, f"greedy {PAIR} --metric clean+ {RUN}", "clean+")
add("B9 a metric that is not judged", 2, f"grid {PAIR} --best linf:0.1 {RUN}", "linf:0.1", fix="")
add("B9 a landscape of two", 2, f"landscape {PAIR} {RUN}", "three")
add("B9 a landscape of one plane", 3, f"landscape {{x}} {PAIR} {RUN}", fix="")
add("B9 shots that leave none", 2, f"adapt {PAIR} --shots 8 {RUN}", "shots", "8")
add(
    "B9 a corruption that is none",
    2,
    f"adapt {PAIR.replace('digits', 'blurr-3:digits')} {RUN}",
    "blurr",
)
add(
    "B9 a strength that is none", 2, f"adapt {PAIR.replace('digits', 'blur-6:digits')} {RUN}", "'6'"
)

# ---- C: learning

LEARN = f"learn {PAIR} --augment none --epochs 1 {RUN}"
add("C8 a start that is none", 2, f"{LEARN} --eps 0 --init xavjer", "xavjer", "xavier")
add("C8 a start at nobody", 2, f"{LEARN} --eps 0 --init only:7", "only:7")
add("C8 a radius twice", 2, f"{LEARN} --eps 0,0", "repeated")
add("C3 one radius of several is nan", 2, f"{LEARN} --eps 0,nan", "'nan'")
add("C4 one radius of several is 8", 2, f"{LEARN} --eps 0,8", "8/255")
add(
    "D12 a split that teaches and stops",
    2,
    f"{LEARN} --eps 0 --split train --limit 1197 --stop-split train",
    "stopping split",
)
add(
    "D12 a split that teaches and judges",
    2,
    f"{LEARN} --eps 0 --split train --limit 1197 --judge-split train --threat linf:0.1",
    "judge split",
)
start = f"{LEARN.replace('/run', '/learned')} --eps 0 --init recipe:{{home}}/run/recipe.json"
add("A53 a start at others' recipe", 3, start, "recipe.json", make=partial(gridded, edit=of_others))
judged = "--judge-split test --threat linf:0.1"
beside = f"{LEARN.replace('/run', '/learned')} --eps 0 --beside {{home}}/run {judged}"
add("A53 beside a grid of others", 3, beside, "grid-clean", make=partial(gridded, edit=of_others))

# ---- H: what was tried

SELECT = "select {home}/run"
made: dict[str, Any] = {"make": gridded}
add("H5 no such metric", 2, f"{SELECT} --max linf:0.1", "linf:0.1", **made, fix="")
add("H5 a condition that is none", 2, f"{SELECT} --where clean=high", "clean=high", **made)
add("H5 a condition that none meets", 3, f"{SELECT} --where 'clean>1'", "no soup of 3", **made)
add("H5 the knee and the highest", 2, f"{SELECT} --knee --max clean", "--knee", **made)
add("H5 a soup over an ingredient", 2, f"{SELECT} -o {{x}} --force", "x.safetensors", **made)
for name, edit, status, word in (
    ("is torn", torn, 0, ""),
    ("is damaged", damaged, 3, "trials.jsonl"),
    ("holds nothing", nothing_yet, 3, "run"),
):
    add(f"H5 select from what {name}", status, SELECT, word, make=partial(gridded, edit=edit))
    line = "report {home}/run --format none"
    page = {"makes": ("run/report.html",)}
    add(f"H5 report of what {name}", status, line, word, make=partial(gridded, edit=edit), **page)

# ---- E: sites, and what goes there

add("E6 a site that nobody knows", 2, "pull https://example.org/x.safetensors", "example.org")
add("E6 pull of nothing", 2, "pull", "--list")
add("E6 offline, and not here", 6, "inspect hf-hub:owner/name --offline", "no site may be asked")
add("E6 RobustBench, offline", 6, "inspect rb:cifar10/Linf/Carmon2019Unlabeled --offline", "Carmon")
add(
    "E6 an entry that is none",
    2,
    "inspect rb:cifar10/Linf/Carmon2019Unlabelled",
    "Carmon2019Unlabeled",
)
add("E6 a push of what is no export", 3, "push {home} hf-hub:owner/name", "README.md")
add("C12 an export over a folder", 5, "export {x} -o {home}", "exists", fix="")
add("C12 an export of nothing", 3, "export {home}/none.safetensors -o {home}/dir", "none")
