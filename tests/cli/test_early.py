"""What can be refused without torch is refused before it is loaded; busy folders come first."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import soupmerge as sm
from soupmerge.cli import main
from tests.cli.lines import LINES
from tests.shared import files_of

Typed = Callable[..., Any]

GRID = "grid a b --data digits -o run"
LEARN = "learn a b --data digits -o run"
TYPOS: dict[str, str] = {
    # line: what is said of it
    "eval a --data digits --threat linf:8": "did you mean linf:8/255",
    f"{GRID} --threat l3:1": "unknown norm 'l3'",
    "check a b --threat linf": "write norm:eps",
    "check a b --threat linf:0.1": "give --data",
    "check a b -o run": "give --data",
    "eval a --data digits --model renset9": "did you mean 'resnet9'",
    f"{GRID} --model resnet": "unknown network 'resnet'",
    "eval a --threat linf:8/255": "--data",
    GRID.replace("--data digits", "--threat linf:8/255"): "--data",
    f"{GRID} --steps 0": "--steps",
    "eval a --data digits --strict --no-doubts": "--strict: conflicts with --no-doubts",
    "eval a --data digits --resolution 6,x": "--resolution: 'x' is not a number of pixels",
    "eval a --data digits --ensemble prob": "--ensemble: needs several networks",
    "eval a --data digits --autoattack-attacks square": "give --attack autoattack",
    LEARN: "--eps and --against: give one of the two",
    f"{LEARN} --eps 0 --against l2:1": "--eps and --against: give one of the two",
    f"{LEARN} --eps 0 --patience 3": "--patience: needs --stop-split",
    f"{LEARN} --eps 0 --judge-split test": "give both, or neither",
    f"{LEARN} --eps 0 --threat l2:1": "give both, or neither",
    f"{LEARN} --eps 0 --beside grid": "--beside: nothing is judged",
    f"{LEARN} --eps 0 --mart 1 --trades-kl 2": "--trades-kl and --mart",
    f"{LEARN} --eps 0.1,0.1": "--eps and --trades: a value is repeated",
    f"{LEARN} --eps 0,0.1 --export x": "--export: takes one soup",
    "mix a b -o x.safetensors": "-w and --recipe: give one of the two",
    "mix a b -w 1,0 --recipe r.json -o x.safetensors": "-w and --recipe: give one of the two",
    "mix a b -w 1,0 -o x.pt": "x.pt: cannot write '.pt' files; name a .safetensors file",
    "mix a b -w 1,0 -o x": "x: has no suffix; name a .safetensors file",
    "mix a b -w 1,0 -o x --max-shard-size 0": "at least one byte",
    "mix --recipe r.yaml -o x.safetensors": "r.yaml: is a YAML file; recipes are JSON",
    "mix --recipe r.YML -o x.safetensors": "r.YML: is a YAML file; recipes are JSON",
    "mix a b -w 1,0 -o x.safetensors --buffers recalibrate": "give --data",
    "mix a b -w 1,0 -o x.safetensors --threat l2:1 --threat l1:1": "give at most one",
    "mix a b -w 1,0 -o x --max-shard-size 9KB --buffers recalibrate --data digits": "single file",
    "finetune a --data digits --threat linf:0.1 -o x": "x: has no suffix",
    "finetune a --data digits --threat clean --threat l2:1 -o x.safetensors": "give --trades",
    "convert a -o x.bin": "cannot write '.bin' files",
    "select run --metric clean --knee": "--metric and --knee: give one of the two",
    "select run --export x": "--export: needs the soup; give -o as well",
    "select run -o x.pt": "cannot write '.pt' files",
    "report a b": "-o: the page of several runs needs a name",
    "report a --format gif": "--format: unknown format 'gif'",
    "pull": "REF and --list: give one of the two",
    "pull rb --list rb": "REF and --list: give one of the two",
    "pull a b -o x": "-o: names one file for several REFs",
    "grod": "did you mean 'grid'?",
}
SCRIPT = """
import sys
from soupmerge.cli import main
for line in sys.stdin.read().splitlines():
    print(line, file=sys.stderr)
    status = main.run(line.split())
    print(f"status {status}, torch {'torch' in sys.modules}", file=sys.stderr)
"""


def test_mistakes_are_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input="\n".join(TYPOS),
        text=True,
        capture_output=True,
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    said = process.stderr
    for line, words in TYPOS.items():
        answer, _, said = said.partition(f"{line}\n")[2].partition("status ")
        assert words in answer, line
        wanted = 3 if "YAML" in words else 2
        assert said.startswith(f"{wanted}, torch False"), line
    assert list(tmp_path.iterdir()) == []


def test_the_check_for_torch_can_fail() -> None:
    code = "import torch\n" + SCRIPT
    process = subprocess.run(
        [sys.executable, "-c", code], input="grod", text=True, capture_output=True
    )
    assert "torch True" in process.stderr


# ---- Busy folders.

WITH_RUN = [
    name for name, line in LINES.items() if line.words.endswith("-o run") and "-" not in name
]
SOURCES = ("opened", "opened_all", "load")


@pytest.mark.parametrize("name", [*WITH_RUN, "learn", "eval", "finetune"])
def test_a_busy_folder_is_refused_before_anything_is_loaded(
    name: str,
    soupmerge: Typed,
    larder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for source in SOURCES:
        monkeypatch.setattr(f"soupmerge.sources.refs.{source}", None)
    monkeypatch.setattr(sm, "load", None)
    home = Path("out.run" if name == "finetune" else "run")
    home.mkdir()
    (home / ".holder").write_text("process 7 on elsewhere")
    places = {letter: larder / f"{letter}.safetensors" for letter in "abc"}
    words = LINES[name].words.format(**places).split()
    words += ["-o", "run"] if name == "eval" else []
    with FileLock(home / ".lock"):
        before = files_of(tmp_path)
        said = soupmerge(*words)
        assert said.status == 5
        assert f"{home}: is being written by process 7 on elsewhere; wait until" in said.err
        assert files_of(tmp_path) == before
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        if name in ("grid", "eval", "finetune"):
            assert soupmerge(*words, "--dry-run").status == 0, "a plan disturbs nobody"


def test_there_are_commands_with_run_folders() -> None:
    assert {"grid", "greedy", "path", "search", "adapt", "landscape"} <= set(WITH_RUN)


def test_a_folder_that_is_free_again_is_not_refused(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path
) -> None:
    line = ["grid", *ingredients[:2], "--data", "digits", "--limit", 8, "--step", 1]
    for _ in range(2):
        assert soupmerge(*line, "-o", tmp_path / "run").status == 0
    assert (tmp_path / "run" / ".lock").exists()
    assert not (tmp_path / "run" / ".holder").exists()


# ---- What people write instead.


@pytest.mark.parametrize("text", ["l-inf:8/255", "L_inf:8/255", "Linf:8/255", "linf:8/255"])
def test_norms_are_read_as_people_write_them(text: str) -> None:
    from soupmerge.cli.options.parameter_types import ThreatType

    assert ThreatType().convert(text, None, None) == sm.Linf("8/255")
    assert ThreatType(clean=True).convert(text, None, None) == sm.Linf("8/255")
    assert ThreatType().convert(sm.L2(1), None, None) == sm.L2(1)


def test_percentages_are_answered_with_what_to_give(
    soupmerge: Typed, ingredients: list[Path], larder: Path, tmp_path: Path
) -> None:
    mix = ["mix", *ingredients[:2], "-o", tmp_path / "x.safetensors"]
    said = soupmerge(*mix, "-w", "30,70")
    assert said.status == 2
    assert "30, 70 sum to 100, not 1; give --normalize" in said.err
    assert soupmerge(*mix, "-w", "30,70", "--normalize").status == 0
    assert soupmerge(*mix, "-w", "0.4949,0.4949", "--force").status == 2
    near = soupmerge(*mix, "-w", "0.333,0.666", "--force")
    assert near.status == 2
    assert "exact fractions" in near.err
    for condition, meant in {
        "clean>=70": "clean>=0.70",
        "clean > 100": "clean >1.00",
        "0.5*clean+0.5*union<5": "0.5*clean+0.5*union<0.05",
    }.items():
        said = soupmerge("select", larder / "grid", "--where", condition)
        assert said.status == 2, condition
        assert f"did you mean {meant.replace(' >', '>') if ' ' not in condition else meant}" in (
            said.err
        )
    for condition in ("clean>=0", "clean<=1", "2*clean<2", "clean<=700"):
        assert "did you mean" not in soupmerge("select", larder / "grid", "--where", condition).err


def test_help_of_force_says_what_it_replaces(soupmerge: Typed) -> None:
    def help_of(command: str) -> str:
        return " ".join(soupmerge(command, "-h").out.split())

    assert "folders are never replaced" in help_of("mix")
    for command in ("grid", "learn", "eval", "check", "landscape", "adapt"):
        assert "Start over if the run folder holds a run" in help_of(command)
    for command in ("convert", "pull", "select", "report"):
        assert "Replace the output file if it exists" in help_of(command)


def test_every_command_that_is_called_resumable_is_a_command() -> None:
    assert set(main.COMMANDS) >= main.RESUMABLE | main.RESUMABLE_WITH_OUT
    assert not main.RESUMABLE & main.RESUMABLE_WITH_OUT


@pytest.mark.parametrize(
    ("name", "body", "kind"),
    [
        ("a.pt", '{"error": "not found"}', "it is JSON text"),
        ("a.pth", ' [{"error": 404}]', "it is JSON text"),
        ("a.pt", "error: not found", "it begins with b'error: n'"),
    ],
)
def test_text_instead_of_weights_is_called_what_it_is(
    soupmerge: Typed, tmp_path: Path, name: str, body: str, kind: str
) -> None:
    (tmp_path / name).write_text(body)
    said = soupmerge("inspect", tmp_path / name)
    assert said.status == 3
    assert f"is not a checkpoint: {kind}" in said.err
