"""One table of defaults: the command line, the library, the documents and the papers agree.

Those of ``learn`` are compared with `soupmerge.Settings` in ``tests/soups``.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import soupmerge as sm
from soupmerge.choices import ATTACKS
from soupmerge.cli import landscape
from soupmerge.cli.main import COMMANDS, cli
from soupmerge.soups.geometry import basin
from soupmerge.soups.search import choice
from soupmerge.soups.search.grid import parts_of
from soupmerge.weights import saving

DOCS = Path(__file__).parents[2] / "docs"
Row = tuple[str, str, Any, "tuple[Callable[..., Any], str] | None", str]

ROWS: list[Row] = [
    # command, option, default, where the library has it, the paper whose number it is
    ("grid", "step", "0.2", (sm.grid, "step"), "Huang 2023, section 4.1"),
    ("grid", "race", None, None, ""),
    ("grid", "metric", None, (sm.grid, "metric"), ""),
    ("grid", "buffers", "average", (sm.Buffers, "policy"), ""),
    ("grid", "base", 1, (sm.Buffers, "base"), ""),
    ("grid", "step", "0.2", (sm.race, "step"), ""),
    ("grid", "metric", None, (sm.race, "metric"), ""),
    ("grid", "seed", 0, (sm.race, "seed"), ""),
    ("grid", "seed", 0, (sm.Benchmark, "seed"), ""),
    ("grid", "batch_size", 256, (sm.Benchmark, "batch_size"), ""),
    ("grid", "attack_precision", "fp32", (sm.Benchmark, "precision"), ""),
    ("grid", "transfer", False, (sm.Benchmark, "transfer"), ""),
    ("grid", "only_union", False, (sm.Benchmark, "only_union"), ""),
    ("grid", "thorough", False, None, ""),
    ("eval", "fingerprint", "content", (sm.data, "by"), ""),
    ("grid", "split", "val", None, "images that choose may not judge"),
    ("greedy", "metric", None, (sm.greedy, "metric"), ""),
    ("greedy", "orders", 0, (sm.greedy, "orders"), "Wortsman 2022: one pass, best first"),
    ("greedy", "prune", False, (sm.greedy, "prune"), "Wortsman 2022: nothing is taken out"),
    ("greedy", "seed", 0, (sm.greedy, "seed"), ""),
    ("greedy", "split", "val", None, ""),
    ("path", "points", 11, (sm.path, "points"), "Wortsman 2022 (WiSE-FT): steps of 0.1"),
    ("path", "beyond", 0.0, (sm.path, "beyond"), ""),
    ("path", "metric", None, (sm.path, "metric"), ""),
    ("path", "split", "val", None, ""),
    ("search", "method", "random", (sm.search, "method"), ""),
    ("search", "n", 100, (sm.search, "n"), ""),
    ("search", "metric", None, (sm.search, "metric"), ""),
    ("search", "seed", 0, (sm.search, "seed"), ""),
    ("search", "split", "val", None, ""),
    ("select", "x", "clean", (sm.Trials.knee, "x"), ""),
    ("select", "metric", None, None, "Trials.best: union, or clean without threats"),
    ("select", "knee", False, None, ""),
    ("select", "attack", "apgd", (sm.preset, "name"), "as eval"),
    ("select", "steps", 100, (sm.preset, "steps"), "as eval"),
    ("select", "autoattack_version", "standard", (sm.AutoAttack, "version"), "as eval"),
    ("select", "autoattack_attacks", None, None, ""),
    ("select", "attack_precision", "fp32", (sm.Benchmark, "precision"), ""),
    ("select", "batch_size", 256, (sm.Benchmark, "batch_size"), ""),
    ("select", "seed", 0, (sm.Benchmark, "seed"), ""),
    ("select", "only_union", False, (sm.Benchmark, "only_union"), ""),
    ("select", "split", "val", None, "images that choose may not judge"),
    ("adapt", "shots", 1000, (sm.adapt, "shots"), "Croce 2023: 1,000 labelled images"),
    ("adapt", "step", "0.2", (sm.adapt, "step"), ""),
    ("adapt", "seed", 0, (sm.adapt, "seed"), ""),
    ("adapt", "batch_size", 256, (sm.adapt, "batch_size"), ""),
    ("adapt", "split", "test", None, ""),
    ("eval", "attack", "apgd", (sm.preset, "name"), "Croce & Hein 2020"),
    ("eval", "steps", 100, (sm.preset, "steps"), "Huang 2023, section 4: 100 steps"),
    ("eval", "autoattack_version", "standard", (sm.AutoAttack, "version"), "Croce & Hein 2020"),
    ("eval", "autoattack_attacks", None, None, ""),
    ("eval", "attack_precision", "fp32", (sm.Benchmark, "precision"), ""),
    ("eval", "batch_size", 256, (sm.Benchmark, "batch_size"), ""),
    ("eval", "seed", 0, (sm.Benchmark, "seed"), ""),
    ("eval", "only_union", False, (sm.Benchmark, "only_union"), ""),
    ("eval", "examine", True, None, "docs/flags.md: doubts are looked for"),
    ("eval", "ensemble", None, None, ""),
    ("eval", "split", "test", (sm.data, "split"), ""),
    ("landscape", "points", 15, (sm.landscape, "points"), ""),
    ("landscape", "margin", 0.2, (sm.landscape, "margin"), ""),
    ("landscape", "steps", 20, None, ""),
    ("landscape", "calibrate_on", "train", None, "Garipov 2018: training images"),
    ("landscape", "calibrate_limit", 1000, None, ""),
    ("landscape", "batch_size", 256, (sm.Benchmark, "batch_size"), ""),
    ("landscape", "split", "test", None, "Huang 2023, figure 7: robust test loss"),
    ("finetune", "epochs", 10, (sm.Schedule, "epochs"), "Huang 2023, section 4: 10 epochs"),
    ("finetune", "warmup", 0.0, (sm.Schedule, "warmup"), ""),
    ("finetune", "weight_decay", 0.0, (sm.Schedule, "weight_decay"), "Huang 2023, section 4"),
    ("finetune", "batch_size", 128, (sm.Schedule, "batch_size"), "Huang 2023, section 4"),
    ("finetune", "augment", "crop-flip", (sm.Schedule, "augment"), "Huang 2023, section 4"),
    ("finetune", "precision", "fp32", (sm.Schedule, "precision"), ""),
    ("finetune", "every", 0, (sm.Schedule, "every"), ""),
    ("finetune", "attack_steps", 2, (sm.APGD.training, "steps"), "Huang 2023: 2 steps of APGD"),
    ("finetune", "attack_steps", 2, (sm.against, "steps"), ""),
    ("finetune", "trades", "0", (sm.against, "alpha"), "Huang 2023, equation 1"),
    ("finetune", "label_smoothing", 0.0, (sm.against, "smoothing"), ""),
    ("finetune", "seed", 0, (sm.finetune, "seed"), ""),
    ("finetune", "split", "train", None, ""),
    ("check", "points", 11, (sm.barrier, "points"), ""),
    ("check", "tolerance", 0.05, (sm.barrier, "tolerance"), ""),
    ("check", "buffers", "average", (sm.barrier, "buffers"), ""),
    ("check", "steps", 10, None, ""),
    ("check", "split", "val", None, ""),
    ("mix", "groups", "model", (sm.Recipe, "by"), ""),
    ("mix", "base", 1, (sm.Recipe, "base"), ""),
    ("mix", "affine", False, (sm.Recipe, "affine"), ""),
    ("mix", "dtype", None, (sm.Recipe, "dtype"), ""),
    ("mix", "normalize", False, None, ""),
    ("mix", "max_shard_size", None, (saving.mix_to_file, "shard_bytes"), ""),
    ("mix", "batch_size", 128, (sm.Calibration, "batch_size"), ""),
    ("mix", "seed", 0, (sm.Calibration, "seed"), ""),
    ("mix", "split", "train", None, ""),
]
STATED: list[tuple[str, str, str]] = [
    # page, what it says, the default that it speaks of
    ("basins.md", r"`--steps (\d+)` by default", "check steps"),
    ("basins.md", r"between each pair in (\d+) points", "check points"),
    ("shifted-data.md", r"`--step`, ([\d.]+) by default", "adapt step"),
    ("landscape.md", r"`--points` to each side \((\d+)\)", "landscape points"),
    ("landscape.md", r"`--margin` \(([\d.]+) of their extent\)", "landscape margin"),
    ("landscape.md", r"`--calibrate-limit` images \(([\d,]+)\)", "landscape calibrate_limit"),
    ("evaluating.md", r"`--steps`, (\d+) unless given", "eval steps"),
]
COUNTED_FROM_1 = "base"
SHARED = {
    "ref", "at", "sets", "threats", "limit", "model", "mean", "std", "weights_key", "name",
    "columns", "beside", "classes", "scan", "skip_broken", "fingerprint",
    "workers", "out", "exclude", "only", "head", "licence", "folder", "resolution", "compiled",
    "strict", "judged", "conditions", "refs", "weights", "recipe", "origin", "trades_kl",
    "mart", "y", "lr", "force", "dry_run", "as_json", "quiet", "verbose", "debug", "help",
    "offline",
}  # fmt: skip
"""Options that have no default but their absence, or one that the text states."""


def typed(command: str, option: str) -> Any:
    above = click.Context(cli, **cli.context_settings)
    found = cli.get_command(above, command)
    assert found is not None
    return found.make_context(command, [], parent=above, resilient_parsing=True).params[option]


@pytest.mark.parametrize(
    ("command", "option", "default", "place", "paper"),
    ROWS,
    ids=[f"{i}-{row[0]} {row[1]}" for i, row in enumerate(ROWS)],
)
def test_a_default_is_the_same_on_the_command_line_and_in_the_library(
    command: str, option: str, default: Any, place: Any, paper: str
) -> None:
    assert typed(command, option) == default
    if place is None:
        return
    call, name = place
    theirs = inspect.signature(call).parameters[name].default
    if theirs is inspect.Parameter.empty:  # the library asks for it
        assert (call, default in ATTACKS) == (sm.preset, True)
        return
    if option == COUNTED_FROM_1:
        theirs += 1
    same = float(theirs) == float(default) if _is_number(default, theirs) else theirs == default
    assert same, f"{call.__name__}({name}={theirs!r})"


def _is_number(default: Any, theirs: Any) -> bool:
    return isinstance(theirs, float) and isinstance(default, (str, float, int))


@pytest.mark.parametrize("command", [c for c in COMMANDS if c in {row[0] for row in ROWS}])
def test_the_table_has_every_default(command: str) -> None:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    searches = {row[1] for row in ROWS if row[0] == "grid"} | {"attack", "steps"}
    searches |= {"autoattack_version", "autoattack_attacks"}
    also = searches if command in ("greedy", "path", "search", "grid") else set()
    also |= (
        {"base", "seed", "batch_size", "buffers"} if command in ("check", "landscape") else set()
    )
    also |= {"buffers"} if command == "mix" else set()  # None: there, a recipe may say it
    known = {row[1] for row in ROWS if row[0] == command} | SHARED | also
    result = {str(p.name) for p in found.params if isinstance(p, click.Option)}
    assert result - known == set()


def test_searches_share_their_defaults() -> None:
    shared = ("buffers", "base", "batch_size", "seed", "attack", "steps", "attack_precision")
    more = ("transfer", "thorough", "only_union", "autoattack_version", "split")
    for option in (*shared, *more):
        values = {typed(command, option) for command in ("grid", "greedy", "path", "search")}
        assert len(values) == 1, option
    for option in ("attack", "steps", "autoattack_version"):
        assert typed("grid", option) == typed("eval", option)


@pytest.mark.parametrize(("page", "words", "what"), STATED, ids=[row[2] for row in STATED])
def test_the_documents_state_the_same_default(page: str, words: str, what: str) -> None:
    found = re.search(words, " ".join((DOCS / page).read_text().split()))
    assert found, words
    command, option = what.split()
    assert found[1].replace(",", "") == str(typed(command, option))


def test_numbers_that_stand_in_the_code_are_the_papers() -> None:
    assert landscape.ENOUGH_IMAGES == 2000, "Huang 2023, figure 7: a random 2,000-sample subset"
    assert parts_of(typed("grid", "step")) == 5
    assert sm.Schedule().momentum == 0.9, "Huang 2023, section 4"
    assert sm.Schedule().lr == 0.001, "Huang 2023, section 4: a cosine from 0.001"
    assert sm.APGD.evaluation(sm.Linf(0.1)).steps == 100
    assert typed("check", "tolerance") == basin.TOLERANCE
    assert choice.choose.__defaults__ is None, "the command says what the knee is of"


def written_signatures() -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls that the table of docs/api.md shows."""
    for line in (DOCS / "api.md").read_text().splitlines():
        if line.startswith("| `"):
            for text in re.findall(r"`([A-Za-z_.]+\([^`]*\))`", line.split("|")[1]):
                call = ast.parse(text.replace("…", "..."), mode="eval").body
                assert isinstance(call, ast.Call)
                yield text, call


EXAMPLES = [(sm.search, "method"), (sm.greedy, "metric"), (sm.Run, "device"), (sm.Buffers, "base")]
"""Arguments that the documents give, and do not leave at their default."""

WRITTEN = list(written_signatures())


@pytest.mark.parametrize(("text", "call"), WRITTEN, ids=[text for text, _ in WRITTEN])
def test_the_documents_show_the_signatures_of_the_library(text: str, call: ast.Call) -> None:
    home: Any = sm
    for name in ast.unparse(call.func).split("."):
        home = getattr(home, name)
    parameters = inspect.signature(home).parameters
    for keyword in call.keywords:
        assert keyword.arg in parameters, text
        named = isinstance(keyword.value, (ast.Name, ast.Call))
        stated = ... if named else ast.literal_eval(keyword.value)
        default = parameters[keyword.arg].default
        assert stated == default or (home, keyword.arg) in EXAMPLES or stated is ..., text


def test_there_are_signatures_to_compare() -> None:
    assert len(WRITTEN) > 8
