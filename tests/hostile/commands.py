"""Coefficients, options and outputs that cannot be meant: sections B and C."""

from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

import soupmerge as sm
from tests.hostile.headers import entry, packed, put
from tests.hostile.rows import BOTH, CLICK, READ, Row, Table, save, state

TABLE = Table()


def nothing(home: Path) -> str:
    return ""


def add(
    id: str, status: int, line: str, *words: str, make: Callable[[Path], Any] = nothing, **more: Any
) -> None:
    TABLE.append(Row(id, make, status, words, (line,), **more))


def mix(id: str, weights: str, status: int, *words: str, **more: Any) -> None:
    """Add a row for a mix of two good files by *weights*."""
    add(id, status, f"mix {{good}} {{good2}} {weights} -o {{out}}", *words, **more)


def made_of(home: Path, first: float, second: float) -> None:
    found = safetensors.numpy.load_file(home / "out.safetensors")
    for name, ours in state(0).items():
        exact = first * ours.astype("f8") + second * state(1)[name].astype("f8")
        assert (found[name] == exact.astype("f4")).all()


# ---- B: coefficients

mix("B1 they sum to 0.9", "-w 0.5,0.4", 2, "coefficients", "0.9", "not 1")
mix("B1 they sum to 1.1", "-w 0.7,0.4", 2, "coefficients", "1.1", "not 1")
mix("B1 they sum to 0", "-w 0,0", 2, "coefficients", "0")
mix("B1 they sum to nearly 1", "-w 0.33333,0.66666", 2, "coefficients", "0.99999")
mix("B1 normalised", "-w 1,3 --normalize", 0, check=partial(made_of, first=0.25, second=0.75))
mix("B2 sum 0 while normalising", "-w 1,-1 --normalize --affine", 2, "--normalize", "sum to 0")
mix("B2 all 0 while normalising", "-w 0,0 --normalize", 2, "--normalize", "sum to 0")
mix(
    "B2 sum 0 for one group", "-w uniform -w conv=1,-1 --normalize --groups block", 2, "--normalize"
)
for word in ("nan", "inf", "-inf", "NaN", "infinity"):
    mix(f"B3 {word}", f"--weights={word},1", 2, "coefficients", repr(word))
mix("B5 one too few", "-w 1", 2, "2 checkpoints, 1 coefficients")
mix("B5 one too many", "-w 0.5,0.3,0.2", 2, "2 checkpoints, 3 coefficients")
for word in ("abc", "1e400", "1/0", "0x1", "1_0", "--1", "1e-400000000", "9" * 30, "½", "0.5 0.5"):
    mix(f"B6 {word}", f"'--weights={word},0'", 2, "coefficients", f"'{word[:20]}")
mix("B6 a comma for a point", "-w 0,5", 2, "coefficients", "5")
mix("B6 nothing", "-w ''", 2, "coefficients", "''")
mix("B6 nothing between commas", "-w 0.5,,0.5", 2, "coefficients", "''")
mix("B6 nothing at the end", "-w 0.5,0.5,", 2, "coefficients", "''")
mix("B6 thirds", "-w 1/3,2/3", 0, check=partial(made_of, first=1 / 3, second=2 / 3))
mix("B6 a group that is none", "-w uniform -w conf=1,0 --groups block", 2, "'conf'", "'conv'")
mix("B6 a group twice", "-w conv=1,0 -w conv=0,1 --groups block", 2, "conv")
mix("B6 a grouping that is none", "-w uniform --groups blocks", 2, "'blocks'", "'block'")
mix(
    "B6 globs that overlap",
    "-w uniform --groups 'glob=conv.*,*.bias'",
    2,
    "conv.bias: 'conv.*' and '*.bias'",
)
mix("B6 outside of 0 to 1", "-w 2,-1", 2, "coefficients", "--affine")
mix("B6 a base that is none", "-w uniform --base 3", 2, "--base", "3")
mix("B6 no coefficients", "", 2, "-w and --recipe")
mix("B7 weight 0", "-w 1,0", 0, check=partial(made_of, first=1.0, second=0.0))


def network(home: Path, seed: int = 0, logit: float = 0.0, name: str = "x.safetensors") -> Path:
    """Write a small network that names itself, with logits near ±*logit*."""
    net = sm.model("digits-cnn?width=4")
    weights = {
        n: t + 0.01 * seed if t.is_floating_point() else t for n, t in net.state_dict().items()
    }
    weights["head.bias"] = weights["head.bias"] + logit * (-1) ** torch.arange(10)
    sm.save(home / name, weights, model="digits-cnn?width=4", force=True)
    return home / name


def two(home: Path, logit: float = 0.0) -> Path:
    network(home, 1, logit, "y.safetensors")
    return network(home, 0, logit)


FEW = "--data digits --limit 8"
for step, word in (
    ("0", "step"),
    ("2", "step"),
    ("-0.5", "step"),
    ("nan", "'nan'"),
    ("''", "''"),
    ("0.3", "0.3"),
    ("1e-9", "1000000001"),
):
    line = f"grid {{x}} {{home}}/y.safetensors {FEW} --step {step} -o {{home}}/run"
    add(f"B9 a grid of step {step}", 2, line, word, make=two)
add("B9 a grid of one", 2, f"grid {{x}} {FEW} -o {{home}}/run", "two or more", make=two)
LEARN = f"learn {{x}} {{home}}/y.safetensors {FEW} --augment none -o {{home}}/run"
add(
    "B10 a loss that is not finite",
    7,
    f"{LEARN} --eps 0 --epochs 2",
    "step 1",
    "last good state",
    make=partial(two, logit=3e38),
    makes=("run",),
)
for option in (
    "--lr nan",
    "--lr 0",
    "--lr inf",
    "--lr 1e30",
    "--dropout 2",
    "--dropout nan",
    "--trades 7",
):
    add(
        f"B10 learn {option}",
        2,
        f"{LEARN} --eps 0 {option}",
        "below 1e+09" if option in ("--lr 0", "--lr 1e30") else option.split()[0][2:],
        make=two,
        fix=CLICK,
    )

# ---- C1 to C9: options

EVAL = f"eval {{x}} {FEW}"
for eps, shown in (
    ("linf:8/255", "linf:8/255"),
    ("linf:0.0314", "linf:0.0314"),
    ("l2:2.0", "l2:2"),
):
    add(f"C1 {eps}", 0, f"{EVAL} --threat {eps} --steps 1 --json", f'"{shown}"', make=network)
for eps in (
    *("linf:-1", "linf:nan", "l2:inf", "l1:-0.1", "l2:1e400", "linf:8/0", "linf:", "8/255"),
    *("linf:1e-400", "l2:1e-50", "l1:1e-39", "linf:٨/255", "l2:٠.٥", "l1:1_2"),
):
    add(f"C3 {eps}", 2, f"{EVAL} --threat {eps}", eps.partition(":")[2] or "eps", make=network)
    add(f"C3 learn {eps}", 2, f"{LEARN} --eps={eps.partition(':')[2] or 'x'}", "eps", make=two)
add("C4 linf:8", 2, f"{EVAL} --threat linf:8", "did you mean linf:8/255?", make=network)
add("C4 learn 8", 2, f"{LEARN} --eps 8", "8/255", make=two)


def clean_twice(home: Path) -> None:
    with open(home / "run" / "flags.csv") as file:
        assert all(row["linf:0"] == row["clean"] for row in csv.DictReader(file))


add(
    "C5 eps 0",
    0,
    f"{EVAL} --threat linf:0 --steps 1 -o {{home}}/run",
    "linf:0",
    make=network,
    makes=("run",),
    check=clean_twice,
)
for device in (
    "cuda:99",
    "gpu",
    "mps",
    "cpu:1",
    "''",
    *(() if torch.cuda.is_available() else ["cuda"]),
):
    add(f"C7 device {device}", 2, f"{EVAL} --device {device}", "--device", "cpu", make=network)
add("C8 an unknown option", 2, f"{EVAL} --sede 3", "--sede", "--seed", make=network, fix=CLICK)
add("C8 an unknown command", 2, "inspekt {good}", "'inspekt'", "'inspect'", fix=CLICK)
add(
    "C8 an unknown choice",
    2,
    "mix {good} {good2} -w uniform --buffers avg -o {out}",
    "--buffers",
    "average",
    fix=CLICK,
)
add(
    "C8 an option without a value", 2, "mix {good} {good2} -o {out} -w", "-w", fix="requires an arg"
)
add("C8 no file at all", 2, "mix -w uniform -o {out}", "REF")
add("C8 no output", 2, "mix {good} -w 1", "--out", fix=CLICK)
for seed in ("-1", str(2**70), "abc", "1.5", "٣", "1_0"):
    add(f"C9 seed {seed}", 2, f"{EVAL} --seed {seed}", "--seed", make=network, fix=CLICK)
for option in ("--batch-size", "--limit", "--workers"):
    add(f"C9 {option} ٣", 2, f"{EVAL} {option} ٣", option, make=network, fix=CLICK)
for option in ("--lr ٣", "--dropout nan", "--mart ٣", "--label-smoothing 0_1", "--epochs 1_0"):
    line, word = f"{LEARN} --eps 0 {option}", option.partition(" ")[0]
    add(f"C9 learn {option}", 2, line, word, make=two, fix=CLICK)
for line in ("--split test[:٨]", "--split test[-:8]", f"--split test[:{10**20}]"):
    add(f"C9 {line}", 2, f"{EVAL} {line}", "split", "train[:45000]", make=network)
add("C9 --resolution", 2, f"{EVAL} --resolution ٨", "--resolution", make=network)
add("C9 --init", 2, f"{LEARN} --eps 0 --init only:٢", "only:1", make=two)
add("C9 --trades", 2, f"{LEARN} --eps 0.1 --trades 1e-400", "--trades", make=two)
add("C9 --step", 2, "grid {x} {home}/y.safetensors " + FEW + " --step ١ -o r", "step", make=two)
for query in ("width=٨", "width=1_6", "mean=nan&std=1", "mean=0&std=1e-50", "mean=٠&std=1"):
    line = f"{EVAL} --model 'digits-cnn?{query}'"
    add(f"C9 --model {query}", 2, line, "model" if "width" in query else "std", make=network)
mix("C9 --max-shard-size", "-w uniform --max-shard-size ٥MB", 2, "--max-shard-size")
mix("B6 other digits", "-w ١/٢,1/2", 2, "coefficients")
mix("B6 a coefficient that is 0 as a float", "-w 1e-400,1", 2, "coefficients")
mix("C9 no threads", "-w uniform -j 0", 2, "--workers", fix=CLICK)

# ---- C11 to C16: where it is written

OVER = "mix {good} {good2} -w uniform -o {x} --force"


def alias(link: Callable[[Path, Path], Any], home: Path) -> Path:
    link(home / "good2.safetensors", home / "alias.safetensors")
    return home / "alias.safetensors"


def around(home: Path) -> str:
    (home / "deeper").mkdir()
    return f"{home}/deeper/../good.safetensors"


for id, make in (
    ("itself", lambda home: home / "good.safetensors"),
    ("by its bare name", lambda home: "good.safetensors"),
    ("by ..", around),
    ("by a symbolic link", partial(alias, os.symlink)),
    ("by a hard link", partial(alias, os.link)),
):
    add(f"C11 an input {id}", 2, OVER, "also an input", make=make)
add("C11 an input of convert", 2, "convert {good} -o {good} --force", "also an input")
add(
    "C11 shards over an input",
    5,
    "mix {x} -w 1 -o {home}/x --max-shard-size 1KB --force",
    "exists",
    make=lambda home: shard(home),
)


def shard(home: Path) -> Path:
    (home / "x").mkdir()
    return save(home / "x" / "model.safetensors")


add("C12 it exists", 5, "mix {good} {good2} -w uniform -o {old}", "old.safetensors", "--force")
add("C12 it exists, and is to be replaced", 0, "mix {good} {good2} -w uniform -o {old} --force")
add(
    "C12 a folder that exists",
    5,
    "mix {good} -w 1 -o {x} --max-shard-size 1KB --force",
    "exists",
    make=lambda home: (home / "x").mkdir() or home / "x",
)
add(
    "C12 a folder where a file should be",
    5,
    "mix {good} -w 1 -o {x} --force",
    "is a folder",
    make=lambda home: (home / "x.safetensors").mkdir() or home / "x.safetensors",
)
add("C12 no folder for it", 5, "mix {good} -w 1 -o {home}/no/x.safetensors", "there is no folder")
add("C12 a file for its folder", 5, "mix {good} -w 1 -o {good2}/x.safetensors", "good2.safetensors")
add(
    "C12 a folder that nobody may write to",
    5,
    "mix {good} -w 1 -o {out}",
    "out.safetensors",
    nobody=True,
    make=lambda home: (home / "good.safetensors").chmod(0o644),
)
add("C12 a run over a file", 5, f"{EVAL} -o {{good}}", "good.safetensors", make=network)
for suffix in (".pt", ".bin", ".h5", ".txt", "", ".safetensors.bak"):
    add(
        f"C13 '{suffix}'",
        2,
        f"mix {{good}} -w 1 -o {{home}}/x{suffix}",
        f"x{suffix}",
        ".safetensors",
    )
    add(f"C13 convert to '{suffix}'", 2, f"convert {{good}} -o {{home}}/x{suffix}", ".safetensors")
for size in ("0", "-1", "abc", "1TB", "1e9999GB", ""):
    add(
        f"C13 shards of '{size}'",
        2,
        f"mix {{good}} -w 1 -o {{home}}/x --max-shard-size '{size}'",
        "--max-shard-size",
    )


def is_link(home: Path) -> None:
    assert (home / "link.safetensors").is_symlink()
    assert len(safetensors.numpy.load_file(home / "old.safetensors")) == 2


def link_to(target: str, home: Path) -> Path:
    (home / "link.safetensors").symlink_to(target)
    return home / "link.safetensors"


add("C15 a link to an old soup", 0, OVER, make=partial(link_to, "old.safetensors"), check=is_link)
add("C15 a link to nothing yet", 0, OVER, make=partial(link_to, "out.safetensors"))
add("C15 a link to itself", 5, OVER, "link.safetensors", make=partial(link_to, "link.safetensors"))


@TABLE.row("C15 a pipe", 5, "x.safetensors", lines=(OVER,))
def pipe(home: Path) -> Path:
    """What is no file must not be replaced by one: the same would be done to ``/dev/null``."""
    os.mkfifo(home / "x.safetensors")
    return home / "x.safetensors"


def by_umask(home: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((home / "out.safetensors").stat().st_mode) == 0o666 & ~mask


mix("C16 the umask decides", "-w uniform", 0, check=by_umask)

# ---- C17, C19: what is printed

EVIL = ("<img src=x>", "|a|b|", "=1+1", "[red]x[/red]", "größe 漢字", "`rm`", "%s{0}")


@TABLE.row("C19 names that mean something elsewhere", 0, *EVIL, lines=(*READ, "inspect {x} --json"))
def evil_names(home: Path) -> Path:
    return save(home / "x.safetensors", **{name: [np.nan] for name in EVIL})


@TABLE.row(
    "C17 a terminal without Unicode or colours",
    0,
    lines=READ,
    lean=True,
    env={
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
        "NO_COLOR": "1",
    },
)
def plain_terminal(home: Path) -> Path:
    return save(home / "x.safetensors", größe=[np.nan])


def a_formula(home: Path) -> str:
    network(home, name="=1+1.safetensors")
    return "=1+1.safetensors"


def no_formula(home: Path) -> None:
    with open(home / "run" / "flags.csv") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell[:1] in ("=", "+", "@")]


add(
    "C19 a name that is a formula",
    0,
    f"{EVAL} -o {{home}}/run",
    make=a_formula,
    makes=("run",),
    check=no_formula,
)


def noted(notes: Any, home: Path) -> Path:
    """Write good weights with what soupmerge would note about them, or anyone."""
    text = notes if isinstance(notes, str) else json.dumps(notes)
    tensors = {"conv.bias": entry(), "conv.weight": entry(shape=(2, 3), at=(8, 32))}
    return put(home, packed({"__metadata__": {"soupmerge": text}, **tensors}))


def deep(depth: int) -> str:
    """Return a family of *depth* generations."""
    node = '{"ref":"a","sha256":"b","made":"mix","parents":['
    return '{"family":[' + node * depth + "]}" * depth + "]}"


HASH = "0" * 64
SOURCE, STATISTICS = {"ref": "a", "sha256": HASH}, {"policy": "average", "base": 0}
RECIPE = {
    "format": "soupmerge-recipe/1",
    "ingredients": [SOURCE],
    "groups": "model",
    "weights": {"model": [1.0]},
    "buffers": STATISTICS,
}
NOTES = {
    "no JSON": "{",
    "a list": [],
    "a constant": "NaN",
    "half a character": '{"model": "\\ud800", "family": ["\\udfff"]}',
    "escapes for the terminal": {"model": "a\x1b[2J", "training": {"objective": {"\x1b[1m": "\r"}}},
    "a model that is a list": {"model": [1]},
    "a model that is 1 MB of text": {"model": "m" * 1_000_000},
    "a recipe that is a text": {"recipe": "all of it"},
    "a recipe with a family of texts": {"recipe": RECIPE, "family": ["a"]},
    "a recipe with a family of numbers": {"recipe": RECIPE, "family": {"a": 1}},
    "a training of numbers": {"training": {"objective": {"a": {}}, "base": 3}, "family": 3},
    "a training that is a list": {"training": [], "family": [[[]]]},
    "parents that are texts": {"training": {"base": "x"}, "family": "text"},
    "a family 200 deep": deep(200),
    "a family 900 deep": deep(900).replace('{"family"', '{"training":{"base":1},"family"', 1),
    "a family 450 deep, and a recipe": deep(450)[:-1] + f', "recipe": {json.dumps(RECIPE)}}}',
    "a list 950 deep": '{"recipe":1,"a":' + "[" * 950 + "]" * 950 + "}",
    "a list 5,000 deep": '{"a":' + "[" * 5000 + "]" * 5000 + "}",
    "a family that widens": {"training": {}, "family": [{"ref": "a" * 1000}] * 1000},
}
LINES = (
    "inspect {x}",
    "inspect {x} --json",
    "mix {x} {good} -w uniform -o {old} --force",
    "check {x} {good}",
    "convert {x} -o {out} --force",
)
for id, notes in NOTES.items():
    TABLE.append(Row(f"C19 notes of {id}", partial(noted, notes), 0, (), LINES))
for key in ("seen", "recipe", "model"):
    text = f'{{"{key}": [], "a": 1, "{key}": []}}'
    row = Row(f"A9 notes with {key!r} twice", partial(noted, text), 3, (f"'{key}' appears",), BOTH)
    TABLE.append(row)

# ---- recipes of anyone's

MIX = "mix {good} --recipe {x} -o {out}"
for id, value, word in (
    ("a key mistyped", {**RECIPE, "wieghts": RECIPE["weights"]}, "did you mean 'weights'?"),
    ("an option mistyped", {**RECIPE, "affien": True}, "unknown key 'affien'"),
    ("a key of none", {**RECIPE, "optimiser": "sgd"}, "unknown key 'optimiser'"),
    ("a policy mistyped", {**RECIPE, "buffers": {"polcy": "base", **STATISTICS}}, "'policy'?"),
    ("a source's key mistyped", {**RECIPE, "ingredients": [{**SOURCE, "hsa256": ""}]}, "'sha256'?"),
    ("weights in quotes", {**RECIPE, "weights": {"model": ["1.0"]}}, "'1.0' is not a number"),
    ("a weight that is true", {**RECIPE, "weights": {"model": [True]}}, "True is not a number"),
    ("a base of 0.5", {**RECIPE, "buffers": {**STATISTICS, "base": 0.5}}, "not a whole number"),
    ("a base that is false", {**RECIPE, "buffers": {**STATISTICS, "base": False}}, "not a whole"),
    ("a copy from 0.5", {**RECIPE, "copied": {"conv.bias": 0.5}}, "not a whole number"),
    ("affine in quotes", {**RECIPE, "affine": "yes"}, "neither true nor false"),
    ("a key missing", {k: v for k, v in RECIPE.items() if k != "weights"}, "weights"),
    ("weights that are a list", {**RECIPE, "weights": [[1.0]]}, "recipe"),
    ("weights that are text", {**RECIPE, "weights": {"model": "abc"}}, "recipe"),
    ("a weight beyond floats", {**RECIPE, "weights": {"model": [10**400]}}, "recipe"),
    ("weights that are NaN", {**RECIPE, "weights": {"model": [float("nan")]}}, "finite"),
    ("weights that sum to 2", {**RECIPE, "weights": {"model": [2.0]}}, "not 1"),
    ("no groups", {**RECIPE, "weights": {}}, "group"),
    ("a grouping that is none", {**RECIPE, "groups": "blocks"}, "'blocks'"),
    ("a base that is none", {**RECIPE, "buffers": {"policy": "average", "base": 7}}, "base"),
    (
        "a base that is infinite",
        {**RECIPE, "buffers": {"policy": "average", "base": 1e999}},
        "x.json",
    ),
    ("a policy that is none", {**RECIPE, "buffers": {"policy": "avg", "base": 0}}, "'avg'"),
    ("a copy from nowhere", {**RECIPE, "copied": {"conv.bias": 3}}, "copies"),
    ("a list", [RECIPE], "recipe"),
    ("no ingredients", {**RECIPE, "ingredients": []}, "x.json"),
    ("another file", RECIPE, "0000000000000000"),
):
    text = json.dumps(value).encode()
    make = partial(put, content=text, name="x.json")
    TABLE.append(Row(f"C8 a recipe with {id}", make, 3, (word,), (MIX,)))


@TABLE.row("C8 a recipe with a copy of what is not there", 3, "nowhere", lines=(MIX,))
def copy_of_nothing(home: Path) -> Path:
    source = {"ref": "good.safetensors", "sha256": sm.load(home / "good.safetensors")[0].sha256}
    value = {**RECIPE, "ingredients": [source], "copied": {"nowhere": 0}}
    return put(home, json.dumps(value).encode(), "x.json")


for id, content in (
    ("no JSON", b'{"format"'),
    ("nothing", b""),
    ("deep", b"[" * 200_000),
    ("a number of 5,000 digits", b'{"format": %s}' % (b"1" * 5000)),
):
    make = partial(put, content=content, name="x.json")
    TABLE.append(Row(f"C8 a recipe that is {id}", make, 3, ("x.json",), (MIX,)))
for key, value in (("weights", {"model": [1.0]}), ("buffers", STATISTICS), ("base", 0)):
    entry_twice = f'"{key}": {json.dumps(value)}'
    text = json.dumps(RECIPE).replace(entry_twice, f"{entry_twice}, {entry_twice}")
    make = partial(put, content=text.encode(), name="x.json")
    TABLE.append(Row(f"A9 a recipe with {key!r} twice", make, 3, (f"'{key}' appears",), (MIX,)))
TABLE.append(
    Row(
        "C8 a recipe that is a checkpoint",
        lambda home: save(home / "x.safetensors"),
        3,
        ("is not a recipe",),
        (MIX,),
    )
)
