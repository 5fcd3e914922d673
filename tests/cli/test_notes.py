"""What is said beside results: warnings, plans, help, progress; and what is not, if quiet."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.main import COMMANDS
from soupmerge.soups.judge import comparison

Typed = Callable[..., Any]
FEW = ["--data", "digits", "--limit", 12]


@pytest.mark.parametrize("split", ["test", "test[:500]", "test[10:]"])
def test_images_that_should_judge_are_warned_of_where_they_choose(
    soupmerge: Typed, ingredients: list[Path], split: str
) -> None:
    line = [
        *ingredients[:2],
        "--data",
        "digits",
        "--limit",
        8,
        "--split",
        split,
        "-o",
        "run",
        "--dry-run",
    ]
    for command in (["grid"], ["greedy"], ["path"], ["search"], ["learn", "--eps", "0"]):
        said = soupmerge(*command, *line)
        assert said.status == 0
        assert f"warning: --split {split} " in said.err
        assert "judge the soup on other images" in said.err


@pytest.mark.parametrize("split", ["val", "train", "train[:500]"])
def test_other_images_may_choose(soupmerge: Typed, ingredients: list[Path], split: str) -> None:
    line = [
        *ingredients[:2],
        "--data",
        "digits",
        "--limit",
        8,
        "--split",
        split,
        "-o",
        "run",
        "--dry-run",
    ]
    said = soupmerge("grid", *line)
    assert (said.status, "warning" in said.err) == (0, False)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_option_and_its_default(soupmerge: Typed, command: str) -> None:
    said = soupmerge(command, "-h")
    assert said.status == 0
    assert said.out.startswith(f"Usage: soupmerge {command} ")
    assert len(said.out.splitlines()) < (170 if command in ("learn", "front") else 112)
    assert "None]" not in said.out


def test_without_a_command_there_is_help(soupmerge: Typed) -> None:
    said = soupmerge()
    assert said.status == 0
    shown = re.findall(r"^  ([a-z]+) {2,}\S", said.out, re.MULTILINE)
    assert shown == list(COMMANDS)
    assert "..." not in said.out.partition("Commands:")[2], "sentences are not cut"


def test_quiet_says_nothing_and_verbose_more(soupmerge: Typed, ingredients: list[Path]) -> None:
    line = ["mix", *ingredients[:2], "-w", "uniform", "-o", "x.safetensors", "--dry-run"]
    plain, quiet, more = (soupmerge(*line, *words) for words in ([], ["-q"], ["-v"]))
    assert quiet.out.splitlines()[:-1] == plain.out.splitlines()[:-1]  # the last is what is free
    assert quiet.err == ""
    assert "batch-norm statistics are averaged" in plain.err
    assert all(sm.load(ingredient)[0].sha256 in more.err for ingredient in ingredients[:2])
    evaluated = soupmerge("eval", ingredients[0], *FEW, "-v", "--device", "cpu")
    assert re.search("threads?, device cpu", evaluated.err)


@pytest.mark.parametrize("command", ["grid", "adapt", "learn", "finetune", "landscape", "eval"])
def test_a_dry_run_does_nothing(
    soupmerge: Typed,
    ingredients: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    refs = {"finetune": ingredients[:1], "landscape": ingredients}.get(command, ingredients[:2])
    more = {"learn": ["--eps", "0"], "finetune": ["--threat", "clean"], "adapt": ["--shots", 2]}
    out = "out.safetensors" if command == "finetune" else "out"
    line = [command, *refs, *FEW, *more.get(command, []), "-o", out, "--dry-run"]
    assert soupmerge(*line).status == 0
    assert list(tmp_path.iterdir()) == []


def test_strict_ends_with_1_where_there_are_doubts(
    soupmerge: Typed, ingredients: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt = {"name": "chance", "what": "it guesses", "fix": "look again"}
    flags = {"clean": torch.ones(4, dtype=torch.bool)}
    data = {"ref": "digits", "split": "test", "n": 4}
    reports = {
        0: [sm.Report(data, flags, {})] * 2,
        1: [sm.Report(data, flags, {}), sm.Report(data, flags, {}, notes={"doubts": [doubt]})],
    }
    for status, found in reports.items():
        monkeypatch.setattr(comparison, "compare", lambda *a, found=found, **settings: found)
        said = soupmerge("eval", *ingredients[:2], *FEW, "--strict")
        assert said.status == status
        line = f"doubt: {ingredients[1]}: chance: it guesses; look again (docs/flags.md#chance)"
        assert (line in said.out) == bool(status)
        assert soupmerge("eval", *ingredients[:2], *FEW).status == 0


def test_progress_is_told_now_and_then_and_not_if_quiet(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    for quiet in (False, True):
        context = click.Context(click.Command("grid"))
        context.meta[show.QUIET] = quiet
        with context, show.Progress() as progress:
            for seconds, done in ((1, 1), (16, 2), (20, 3), (40, 4)):
                now[0] += seconds
                progress("soups", done, 4, "a note" if done == 2 else "")
        lines = capfd.readouterr().err.splitlines()
        assert lines == (
            [] if quiet else ["soups: 2 of 4 (a note)", "soups: 3 of 4", "soups: 4 of 4"]
        )


def test_columns_are_aligned_and_control_characters_are_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    show.table(["name", "n"], [["a\x1b[31m", 1], ["long name", 200]])
    assert capfd.readouterr().out == "name       n\na\\x1b[31m  1\nlong name  200\n"


def test_a_file_has_one_line_of_notes(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path
) -> None:
    state = {f"module.{n}": t for n, t in sm.load(ingredients[0])[0].items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "a.pt")
    model = ["--model", "digits-cnn?width=2"]
    said = soupmerge(
        "eval", tmp_path / "a.pt", ingredients[1], *FEW, *model, "-o", tmp_path / "run"
    )
    (line,) = said.err.splitlines()
    assert line.startswith(f"{tmp_path}/a.pt: ")
    assert all(word in line for word in ("state_dict", "epoch", "module."))
    more = soupmerge("eval", tmp_path / "a.pt", *FEW, *model, "-v").err
    assert sm.load(tmp_path / "a.pt")[0].sha256 in more
    assert sum(text.startswith(f"{tmp_path}/a.pt: ") for text in more.splitlines()) == 1


def pictures(home: Path, side: int, *, grey: bool) -> str:
    x = np.random.default_rng(0).random((8, 3, side, side))
    x[:] = x[:, :1] if grey else x
    np.savez(home / "x.npz", x=x, y=np.arange(8) % 4)
    return f"npz:{home / 'x.npz'}"


@pytest.mark.parametrize("command", ["eval", "grid", "learn", "landscape"])
@pytest.mark.parametrize(
    ("side", "grey"), [(32, False), (32, True), (16, False)], ids=["usual", "grey", "small"]
)
def test_images_that_a_network_is_not_made_for_are_noted(
    soupmerge: Typed, tmp_path: Path, command: str, side: int, grey: bool
) -> None:
    name = "resnet9?width=2&num_classes=4"
    for i in range(3):
        net = sm.model(name, seed=i)
        sm.save(tmp_path / f"{i}.safetensors", net.state_dict(), model=name)
    refs = [
        tmp_path / f"{i}.safetensors" for i in range({"eval": 1, "landscape": 3}.get(command, 2))
    ]
    data, out = pictures(tmp_path, side, grey=grey), ["-o", tmp_path / "run"]
    more = {"learn": ["--eps", "0"], "eval": ["--data", data]}.get(command, [])
    said = soupmerge(command, *refs, "--data", data, *more, *out, "--dry-run")
    assert said.status == 0, said.err
    size = f"{data}: the images have 16×16 pixels; resnet9 is made for 32×32"
    assert said.err.count(size) == (side == 16)
    assert said.err.count(f"{data}: the images are grey") == grey
    assert (
        "pixels"
        not in soupmerge(command, *refs, "--data", data, *more, *out, "--dry-run", "-q").err
    )


def test_a_network_of_timm_says_its_size_itself(capfd: pytest.CaptureFixture[str]) -> None:
    from soupmerge.cli.notes import note_image_size

    net = sm.model("timm:resnet18?num_classes=4")
    images = sm.Images.of(np.zeros((2, 3, 64, 48)), np.arange(2))
    with click.Context(click.Command("eval")):
        for _ in range(2):
            note_image_size(net, images)
        note_image_size(sm.model("digits-cnn?width=2"), sm.data("digits", limit=4))
        note_image_size(torch.nn.Flatten(), images)
    size = net.pretrained_cfg["input_size"][1]
    assert capfd.readouterr().err == (
        f"arrays: the images have 48×64 pixels; timm:resnet18 is made for {size}×{size}\n"
    )
