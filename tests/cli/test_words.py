"""What may be typed: required words, bounds, choices; and what is not is the library's default."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import torch

import soupmerge as sm
from soupmerge.choices import attack_names
from soupmerge.cli.main import cli
from tests.cli.lines import LINES
from tests.cli.spying import Made, Spy, flat, home_of, spread

Typed = Callable[..., Any]
NAMES = [name for name in LINES if " " not in name]


@pytest.fixture
def places(larder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Go to an empty folder, and return where what a line speaks of is."""
    monkeypatch.chdir(tmp_path)
    found = {name: str(larder / f"{name}.safetensors") for name in "abc"}
    found |= {name: str(larder / name) for name in ("grid", "export")}
    soup = larder / "grid" / "soup.safetensors"
    return found | {"recipe": str(larder / "recipe.json"), "soup": str(soup)}


def words_of(name: str, places: dict[str, str], *more: str) -> list[str]:
    return [*(word.format(**places) for word in shlex.split(LINES[name].words)), *more]


def called(name: str, words: list[str], soupmerge: Typed) -> tuple[Spy, Any]:
    """Type *words*; return what was caught of the library's call, and how the command ended."""
    with pytest.MonkeyPatch.context() as patched:
        spy = Spy(patched)
        spy.wait_for(*LINES[name].targets)
        try:
            return spy, soupmerge(*words)
        except Made:
            return spy, None


def command_of(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli, **cli.context_settings), name)
    assert found is not None
    return found


# ---- What must be typed.

OPTIONAL = {"check": {"--data", "--threat"}, "eval": {"--threat"}, "mix": {"-w"}}
"""Options of the lines of the table that those commands can do without, or need another for."""

WITHOUT_NEEDS = ("inspect", "data", "check", "select", "report", "push", "pull", "demo")
"""Commands whose lines have no option that they need."""


@pytest.mark.parametrize("name", NAMES)
def test_a_line_does_not_go_without_what_it_needs(
    name: str, places: dict[str, str], soupmerge: Typed
) -> None:
    words, needed = words_of(name, places), 0
    for i, word in enumerate(words):
        if not word.startswith("-") or word in ("--limit", "--threat", "--shots"):
            continue
        if word in OPTIONAL.get(name, ()):
            continue
        spy, ended = called(name, words[:i] + words[i + 2 :], soupmerge)
        assert (spy.call, ended.status) == (None, 2), f"without {word}"
        assert word in ended.err
        needed += 1
    spy, _ = called(name, words, soupmerge)
    assert spy.call is not None
    assert needed or name in WITHOUT_NEEDS


@pytest.mark.parametrize("name", [n for n in NAMES if "{a}" in LINES[n].words])
def test_a_line_does_not_go_without_files(
    name: str, places: dict[str, str], soupmerge: Typed
) -> None:
    words = [word for word in words_of(name, places) if word not in {places[k] for k in "abc"}]
    if name == "finetune":
        words += ["--model", "digits-cnn?width=2"]  # a new network
    spy, ended = called(name, words, soupmerge)
    assert ended is None if name == "finetune" else (spy.call, ended.status) == (None, 2)
    assert called(name, words_of(name, places), soupmerge)[0].call is not None


# ---- What may be typed.

BOUNDS: dict[str, tuple[float | None, float | None, str]] = {
    # option: lowest, highest, and a command that has it; None where there is no bound
    "--seed": (0, 2**63 - 1, "grid"),
    "--workers": (1, 1024, "grid"),
    "--limit": (1, None, "grid"),
    "--steps": (1, None, "grid"),
    "--batch-size": (1, 1_000_000, "grid"),
    "--orders": (0, 10_000, "greedy"),
    "--points": (2, 10_001, "path"),
    "--beyond": (0, 10, "path"),
    "--shots": (1, None, "adapt"),
    "--epochs": (1, 1_000_000, "learn"),
    "--seeds": (1, 1000, "learn"),
    "--patience": (1, None, "learn"),
    "--attack-steps": (1, 10_000, "learn"),
    "--judge-limit": (1, None, "learn"),
    "check --steps": (1, 10_000, "check"),
    "check --points": (3, 1001, "check"),
    "--tolerance": (0, 1, "check"),
    "landscape --steps": (1, 10_000, "landscape"),
    "landscape --points": (2, 1000, "landscape"),
    "--margin": (0, 99, "landscape"),
    "--calibrate-limit": (2, None, "landscape"),
    "--every": (0, None, "finetune"),
    "finetune --epochs": (1, 1_000_000, "finetune"),
}


@pytest.mark.parametrize("key", BOUNDS)
def test_a_number_beyond_its_bounds_is_refused(
    key: str, places: dict[str, str], soupmerge: Typed
) -> None:
    low, high, name = BOUNDS[key]
    option = key.split()[-1]
    words = words_of(name, places)
    beyond = [low - 1 if low is not None else None, high + 1 if high is not None else None]
    for number in filter(lambda n: n is not None, beyond):
        spy, ended = called(name, [*words, f"{option}={number}"], soupmerge)
        assert (spy.call, ended.status) == (None, 2), number
        assert option in ended.err
    (param,) = (p for p in command_of(name).params if option in p.opts)
    for number in (low, high):
        if number is not None:
            assert param.type.convert(str(number), param, None) == number, "a bound is within"
    if high is None:
        assert param.type.convert(str(10**9), param, None) == 10**9
    assert called(name, words, soupmerge)[0].call is not None


CHOICES: dict[str, tuple[list[str], str]] = {
    "--buffers": (["average", "base"], "grid"),
    "--attack-precision": (["fp32", "bf16", "auto"], "grid"),
    "--autoattack-version": (["standard", "plus", "rand", "custom"], "grid"),
    "check --buffers": (["average", "base"], "check"),
    "mix --buffers": (["average", "base", "recalibrate"], "mix"),
    "--dtype": (["float64", "float32", "float16", "bfloat16"], "mix"),
    "--head": (["base", "first", "skip"], "mix"),
    "landscape --buffers": (["average", "base", "recalibrate"], "landscape"),
    "--norm": (["linf", "l2", "l1"], "learn"),
    "--batch-norm": (["eval", "batch"], "learn"),
    "--recalibrate": (["clean", "attacked"], "learn"),
    "--ingredients": (["auto", "device", "host", "files"], "learn"),
    "--store": (["fp32", "bf16"], "learn"),
    "--precision": (["fp32", "bf16"], "learn"),
    "--augment": (["crop-flip", "none"], "finetune"),
    "--ensemble": (["prob", "logit"], "eval"),
}


@pytest.mark.parametrize("key", CHOICES)
def test_a_word_that_is_no_choice_is_refused(
    key: str, places: dict[str, str], soupmerge: Typed
) -> None:
    words, name = CHOICES[key]
    option = key.split()[-1]
    spy, ended = called(name, words_of(name, places, option, "nonsense"), soupmerge)
    assert (spy.call, ended.status) == (None, 2)
    for word in (option, "nonsense", *words):
        assert word in ended.err
    (param,) = (p for p in command_of(name).params if option in p.opts)
    assert isinstance(param.type, click.Choice)
    assert list(param.type.choices) == words
    assert called(name, words_of(name, places), soupmerge)[0].call is not None


def test_every_attack_may_be_typed_and_no_other(places: dict[str, str], soupmerge: Typed) -> None:
    for attack in attack_names():
        spy, _ = called("eval", words_of("eval", places, "--attack", attack), soupmerge)
        found = spy.arguments()["benchmarks.0.attacks.0"]
        assert found.describe() == sm.preset(attack, sm.Linf(0.1), 100).describe()
    _, ended = called("eval", words_of("eval", places, "--attack", "apdg"), soupmerge)
    assert ended.status == 2
    assert "apgd" in ended.err


@pytest.mark.parametrize("threat", ["linf:8/255", "l2:0.5", "l1:12", "linf:0"])
def test_threats_may_be_typed_where_they_are_judged(
    places: dict[str, str], soupmerge: Typed, threat: str
) -> None:
    spy, _ = called("check", words_of("check", places, "--threat", threat), soupmerge)
    assert str(spy.arguments()["benchmark.attacks.1"].threat) == threat
    _, ended = called("check", words_of("check", places, "--threat", "clean"), soupmerge)
    assert ended.status == 2


def test_clean_is_a_threat_to_train_against_alone(places: dict[str, str], soupmerge: Typed) -> None:
    words = words_of("finetune", places)
    only = [word if word != "linf:0.1" else "clean" for word in words]
    spy, _ = called("finetune", only, soupmerge)
    assert spy.arguments()["objective.attacks"] == ()
    _, ended = called("finetune", [*words, "--threat", "clean"], soupmerge)
    assert ended.status == 2
    assert "--threat" in ended.err
    assert "--trades" in ended.err


# ---- What is not typed.

TYPED = {
    "grid": {"out"}, "greedy": {"out"}, "path": {"out"}, "search": {"out"},
    "adapt": {"shots", "out"}, "landscape": {"out"}, "finetune": {"base"},
    "learn": {"out", "augment"}, "check": set(),
}  # fmt: skip
"""Arguments that differ from the library's defaults since the line says so, or the command does:
training augments, and so does learning."""


@pytest.mark.parametrize("name", TYPED)
def test_what_is_not_typed_is_left_at_the_library_s_default(
    name: str, places: dict[str, str], soupmerge: Typed
) -> None:
    spy, _ = called(name, words_of(name, places), soupmerge)
    found = {key: number(value) for key, value in spy.arguments().items()}
    target = getattr(*home_of(LINES[name].targets[0]))
    parameters = inspect.signature(target).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    wanted = {key: number(value) for key, value in flat(spread(defaults))}
    wanted.pop("progress")
    if "benchmark.data.n" in found:
        own = {"seed": 0, "batch_size": 256, "precision": "fp32"}
        wanted |= {f"benchmark.{k}": v for k, v in own.items()}
        wanted |= {"benchmark.transfer": False, "benchmark.only_union": False}
    kept = {key: value for key, value in wanted.items() if key not in TYPED[name]}
    assert len(kept) > 3
    assert {key: found.get(key) for key in kept} == kept


def number(value: Any) -> Any:
    """Return *value* as a number if it is one, typed or not."""
    is_text = isinstance(value, str) and re.fullmatch(r"[\d.]+", value)
    return float(value) if is_text else value


# ---- What is said of the files.


@pytest.fixture
def wrapped(larder: Path, tmp_path: Path) -> Path:
    """Return the ingredient a as a training left it: wrapped, beside other values."""
    found = sm.load(larder / "a.safetensors")[0]
    state = {f"module.{name}": tensor for name, tensor in found.items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "a.pt")
    return tmp_path / "a.pt"


@pytest.mark.parametrize("name", [n for n in NAMES if "{a} {b}" in LINES[n].words] + ["finetune"])
def test_what_was_unwrapped_is_said(
    name: str, places: dict[str, str], soupmerge: Typed, wrapped: Path, capfd: Any
) -> None:
    model = [] if name == "mix" else ["--model", "digits-cnn?width=2"]
    for quiet in ([], ["-q"]):
        words = words_of(name, {**places, "a": str(wrapped)}, *model, *quiet)
        capfd.readouterr()
        spy, ended = called(name, words, soupmerge)
        assert spy.call is not None, ended
        said = capfd.readouterr().err
        assert (f"{wrapped}: " in said) == (not quiet), said
