"""The command line, as a user types it: contracts, exit statuses, kills."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import soupmerge as sm
from soupmerge.cli.main import COMMANDS
from tests.shared import files_of

Typed = Callable[..., Any]
THREATS = ["--threat", "linf:0.1", "--threat", "l2:0.5", "--steps", 4]
FEW = ["--data", "digits", "--limit", 40]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_there(soupmerge: Typed, command: str) -> None:
    result = soupmerge(*command.split(), "-h")
    assert result.status == 0
    assert "Usage: soupmerge" in result.out
    assert len(result.out.splitlines()) < (140 if command == "learn" else 90)


def test_inspect(soupmerge: Typed, trained: list[Path]) -> None:
    result = soupmerge("inspect", trained[0])
    assert result.status == 0
    assert "digits-cnn?" in result.out
    told = json.loads(soupmerge("inspect", trained[0], "--json").out)
    assert told[0]["notes"]["training"]["objective"]["threat"] == "linf:0.15"


def test_check(soupmerge: Typed, trained: list[Path], tmp_path: Path) -> None:
    assert soupmerge("check", *trained).status == 0
    sm.save(tmp_path / "other.safetensors", sm.model("digits-cnn?width=4").state_dict())
    result = soupmerge("check", trained[0], tmp_path / "other.safetensors")
    assert result.status == 1
    assert len(result.out.splitlines()) > 5
    told = json.loads(soupmerge("check", trained[0], tmp_path / "other.safetensors", "--json").out)
    assert told["compatible"] is False
    assert told["basin"]["verdict"] == "unknown"
    wrong = soupmerge("check", trained[0], "--model", "digits-cnn?width=4")
    assert wrong.status == 1
    assert "model has shape" in wrong.out


def test_mix_and_mix_again(soupmerge: Typed, trained: list[Path], tmp_path: Path) -> None:
    first, second = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    assert soupmerge("mix", *trained, "-w", "1/2,0.25,.25", "-o", first).status == 0
    recipe = sm.load(first)[0].notes_of_soupmerge["recipe"]
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    again = ("mix", "--recipe", tmp_path / "recipe.json", "-o", second)
    assert "give a REF for each ingredient" in soupmerge(*again).err
    assert soupmerge(*again, *trained).status == 0
    assert first.read_bytes() == second.read_bytes()
    plan = soupmerge(
        "mix", *trained, "-w", "uniform", "-o", tmp_path / "x.safetensors", "--dry-run"
    )
    assert plan.status == 0
    assert "0.333333" in plan.out
    assert not (tmp_path / "x.safetensors").exists()


def test_a_recipe_refuses_another_source(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    pots = sm.load(*trained)
    (tmp_path / "recipe.json").write_text(json.dumps(sm.Recipe.uniform(pots).to_json()))
    swapped = [trained[1], trained[0], trained[2]]
    result = soupmerge(
        "mix", *swapped, "--recipe", tmp_path / "recipe.json", "-o", tmp_path / "s.safetensors"
    )
    assert result.status == 3
    assert "the recipe wants" in result.err


def test_eval_keeps_the_contract(soupmerge: Typed, trained: list[Path], tmp_path: Path) -> None:
    result = soupmerge("eval", trained[0], *FEW, *THREATS, "--json", "-o", tmp_path / "run", "-q")
    assert result.status == 0
    told = json.loads(result.out)
    assert told["data"]["n"] == 40
    assert set(told["metrics"]) == {"clean", "linf:0.1", "l2:0.5", "union"}
    robust = told["metrics"]["linf:0.1"]
    assert robust["attack"] == "apgd-ce"
    assert robust["steps"] == 4
    assert robust["accuracy"] == robust["correct"] / 40
    assert robust["ci95"][0] < robust["accuracy"] < robust["ci95"][1]
    assert set(told["cost"]) == {"gradient_evaluations", "forward_evaluations", "seconds"}
    with open(tmp_path / "run" / "flags.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert sum(int(row["linf:0.1"]) for row in rows) == robust["correct"]
    table = soupmerge("eval", *trained, *FEW, *THREATS)
    assert table.out.count("%") >= 12
    assert "40 images of digits (test, 40 of it); under apgd-ce, 4 steps" in table.out
    assert "\x1b" not in table.out + table.err


def test_eval_through_autoattack(soupmerge: Typed, trained: list[Path]) -> None:
    words = ["--data", "digits", "--limit", 8, "--threat", "linf:0.1", "--attack", "autoattack"]
    custom = ["--autoattack-version", "custom", "--autoattack-attacks", "apgd-ce"]
    result = soupmerge("eval", trained[0], *words, *custom, "--json")
    assert result.status == 0
    assert json.loads(result.out)["metrics"]["linf:0.1"]["attack"] == "autoattack-custom"


def test_grid_and_learn_and_report(soupmerge: Typed, trained: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "grid"
    result = soupmerge("grid", *trained, *FEW, "--step", "0.5", *THREATS, "-o", run, "--json")
    assert result.status == 0
    assert result.err.startswith("6 soups of 3 ingredients, 40 images, 2 threats")
    told = json.loads(result.out)
    assert len(told["trials"]) == 6
    assert told["trials"][0]["weights"] == [1.0, 0.0, 0.0]
    assert set(told["baselines"]["ingredients"].values()) == {0, 3, 5}
    assert {f.name for f in (run / "best").iterdir()} == {
        "clean.json",
        "linf-0.1.json",
        "l2-0.5.json",
        "union.json",
    }
    again = soupmerge("grid", *trained, *FEW, "--step", "0.5", *THREATS, "-o", run, "--json")
    assert json.loads(again.out) == told
    assert "resuming" in again.err
    learned = tmp_path / "learned"
    result = soupmerge(
        "learn",
        *trained,
        "--eps",
        "1/10",
        *FEW,
        "--epochs",
        2,
        "--augment",
        "none",
        "-o",
        learned,
        "--judge-split",
        "test",
        *THREATS,
        "--json",
    )
    assert result.status == 0
    assert json.loads(result.out)["trials"][0]["metrics"]["union"]["n"] == 300
    for folder in (run, learned):
        assert soupmerge("report", folder).status == 0
        assert list((folder / "figures").glob("*.png"))


def test_finetune_names_the_network_in_its_file(soupmerge: Typed, tmp_path: Path) -> None:
    short = [*FEW, "--split", "train", "--epochs", 1, "--augment", "none", "-q"]
    base, fine = tmp_path / "base.safetensors", tmp_path / "fine.safetensors"
    made = soupmerge(
        "finetune", "--model", "digits-cnn?width=4", "--threat", "linf:0.1", *short, "-o", base
    )
    assert made.status == 0
    assert soupmerge("finetune", base, "--threat", "clean", *short, "-o", fine).status == 0
    assert soupmerge("eval", fine, *FEW).status == 0
    again = soupmerge("finetune", base, "--threat", "clean", *short, "-o", fine)
    assert again.status == 0
    other = soupmerge("finetune", base, "--threat", "l2:1", *short, "-o", fine)
    assert other.status == 2
    assert "objective" in other.err


def corrupt(home: Path, good: Path) -> Path:
    (home / "cut.safetensors").write_bytes(good.read_bytes()[:-100])
    return home / "cut.safetensors"


def foreign(home: Path, good: Path) -> Path:
    (home / "page.safetensors").write_text("<html>404</html>")
    return home / "page.safetensors"


def narrower(home: Path, good: Path) -> Path:
    sm.save(home / "narrow.safetensors", sm.model("digits-cnn?width=4").state_dict())
    return home / "narrow.safetensors"


def off_range(home: Path, good: Path) -> Path:
    np.savez(home / "x.npz", x=np.full((4, 1, 8, 8), 255.0), y=np.arange(4))
    return home / "x.npz"


def many_classes(home: Path, good: Path) -> Path:
    np.savez(home / "x.npz", x=np.zeros((4, 1, 8, 8)), y=np.arange(9, 13))
    return home / "x.npz"


def occupied(home: Path, good: Path) -> Path:
    (home / "there.safetensors").write_text("precious")
    return home / "there.safetensors"


def damaged_run(home: Path, good: Path) -> Path:
    (home / "run").mkdir()
    (home / "run" / "manifest.json").write_text('{"command": "gr')
    return home / "run"


def sinister(home: Path, good: Path) -> Path:
    command = f"subprocess:getoutput?cmd=touch+{home}/canary"
    sm.save(home / "s.safetensors", dict(sm.load(good)[0]), model=command)
    return home / "s.safetensors"


def rgb(home: Path, good: Path) -> Path:
    np.savez(home / "x.npz", x=np.zeros((4, 3, 8, 8)), y=np.arange(4))
    return home / "x.npz"


def pipe(home: Path, good: Path) -> Path:
    (home / "pictures" / "cat").mkdir(parents=True)
    os.mkfifo(home / "pictures" / "cat" / "a.png")
    os.mkfifo(home / "x.npz")
    return home


def with_nan(home: Path, good: Path) -> Path:
    state = {n: t.clone() for n, t in sm.load(good)[0].items()}
    state["head.bias"][2] = float("nan")
    sm.save(home / "nan.safetensors", state, model=sm.load(good)[0].model)
    return home / "nan.safetensors"


EVAL, MIX = "eval {good} --data digits --limit 9", "mix {good} {good2}"
BAD: list[tuple[str, Any, int, str]] = [
    (
        "eval nowhere.safetensors --data digits",
        None,
        3,
        "nowhere.safetensors: there is no such file",
    ),
    ("eval {x} --data digits", corrupt, 3, "cut.safetensors: is a damaged safetensors file"),
    ("eval {x} --data digits", foreign, 3, "web page"),
    ("grid {good} {x} --data digits -o {home}/r", narrower, 3, "do not fit together"),
    ("eval {good} --data digits --model digits-cnn?width=4", None, 3, "does not fit the model"),
    ("eval {good} --data digits --model resnet8", None, 2, "did you mean 'resnet9'"),
    ("eval {x} --data digits", narrower, 2, "give --model"),
    (EVAL + " --threat linf:8", None, 2, "did you mean linf:8/255?"),
    (EVAL + " --threat l3:1", None, 2, "no norm 'l3'"),
    (EVAL + " --threat linf:8/0", None, 2, "'8/0' is not a number"),
    (EVAL + " --threat linf:0.1 --threat linf:0.1", None, 2, "more than once"),
    (EVAL + " --device gpu", None, 2, "no device 'gpu' here"),
    (EVAL + " --sede 3", None, 2, "--seed"),
    (EVAL + " --seed -1", None, 2, "--seed"),
    ("eval {good} --data digits --split tets", None, 2, "no split 'tets'"),
    ("eval {good} --data digits --limit 5000", None, 2, "limit 5000"),
    ("eval {good} --data npz:{x}", off_range, 3, "divide by 255"),
    ("eval {good} --data npz:{x}", many_classes, 3, "label 12"),
    ("eval {good} --data folder:nowhere", None, 3, "no such folder"),
    ("learn {good} {good2} --eps 8 --data digits -o {home}/r", None, 2, "8/255"),
    ("learn {good} {good2} --eps 8/0 --data digits -o {home}/r", None, 2, "'8/0'"),
    ("learn {good} --eps 0 --data digits -o {home}/r", None, 2, "two or more"),
    (
        "learn {good} {good2} --eps 0 --data digits --groups layer -o {home}/r",
        None,
        2,
        "no grouping 'layer'",
    ),
    (
        "learn {good} {good2} --eps 0 --data digits --judge-split test -o {home}/r",
        None,
        2,
        "go together",
    ),
    ("grid {good} {good2} --data digits --step 0.3 -o {home}/r", None, 2, "does not divide 1"),
    ("grid {good} --data digits -o {home}/r", None, 2, "two or more"),
    ("grid {good} {good2} --data digits -o {x}", damaged_run, 3, "manifest.json: cannot be read"),
    ("grid {good} {good2} --data digits -o {good}/r", None, 5, "cannot be made a folder"),
    (MIX + " -w 0.5,0.4 -o {home}/s.safetensors", None, 2, "sum to 0.9, not 1"),
    (MIX + " -w 1 -o {home}/s.safetensors", None, 2, "2 checkpoints, 1 coefficients"),
    (MIX + " -w nan,1 -o {home}/s.safetensors", None, 2, "nan"),
    (MIX + " -w a,b -o {home}/s.safetensors", None, 2, "'a' is not a number"),
    (MIX + " -o {home}/s.safetensors", None, 2, "give one of the two"),
    (MIX + " -w .5,.5 -o {home}/s.pt", None, 2, "cannot write '.pt' files"),
    (MIX + " -w .5,.5 -o {x}", occupied, 5, "exists already"),
    (MIX + " -w .5,.5 -o {good} --force", None, 2, "also an input"),
    (MIX + " -w .5,.5 -o {home}/no/s.safetensors", None, 5, "there is no folder"),
    (MIX + " -w .5,.5 --base 3 -o {home}/s.safetensors", None, 2, "3 is not one of 2"),
    ("mix --recipe {good} -o {home}/s.safetensors", None, 3, "is not a recipe"),
    ("finetune {good} --threat linf:0.1 --data digits -o {x}", occupied, 5, "exists already"),
    ("eval {x} --data digits", sinister, 4, "could run code"),
    ("eval {good} --data npz:{x}", rgb, 3, "cannot take images of shape (3, 8, 8)"),
    ("learn {good} {good2} --eps 0 --data npz:{x} -o {home}/r", rgb, 3, "cannot take images"),
    (
        "finetune {good} --threat clean --data npz:{x} -o {home}/f.safetensors",
        rgb,
        3,
        "cannot take",
    ),
    ("learn {good} {good2} --eps 0 --data npz:{x} -o {home}/r", many_classes, 3, "label 12"),
    ("eval {good} --data folder:{x}/pictures", pipe, 3, "no files or links to files: cat/a.png"),
    ("eval {good} --data npz:{x}/x.npz", pipe, 3, "not a regular file"),
    ("eval {good} --data digits:foo", None, 2, "takes nothing after a colon"),
    ("eval {good} --data digits:", None, 2, "ends where a name should follow"),
    ("eval {good} --data folder:", None, 2, "ends where a name should follow"),
    ("eval {good} --data digits --mean nan --std 1", None, 2, "is not a number"),
    (MIX + " -w 1e999999999,0 -o {home}/s.safetensors", None, 2, "is not a number"),
    ("mix {good} {x} -w 1,0 -o {home}/s.safetensors", with_nan, 7, "nan.safetensors: head.bias"),
    ("learn {good} {x} --eps 0 --data digits -o {home}/r", with_nan, 7, "head.bias"),
    ("finetune {x} --threat clean --data digits -o {home}/f.safetensors", with_nan, 7, "head.bias"),
    ("grid {good} {good2} --data digits --best foo -o {home}/r", None, 2, "no metric 'foo'"),
    (
        "finetune {good} --threat clean --data digits --lr 0 -o {home}/f.safetensors",
        None,
        2,
        "not above 0",
    ),
    (
        "finetune {good} --threat clean --data digits --lr 1e30 -o {home}/f.safetensors",
        None,
        2,
        "below 1e+09",
    ),
    (EVAL + " --autoattack-attacks apgd-ce", None, 2, "would not be run"),
    (EVAL + " --weights-key ema", None, 3, "has no weights 'ema'"),
    ("eval nowhere.pt nothing.pt --data digits", None, 3, "nothing.pt: there is no such file"),
    ("demo -o {good}/x", None, 5, "cannot be written"),
    ("report {home}", None, 3, "is not a run folder"),
    ("grod", None, 2, "did you mean 'grid'?"),
    ("grid", None, 2, "REF"),
]


@pytest.mark.parametrize(
    ("line", "make", "status", "words"), BAD, ids=[f"{i}-{b[0][:40]}" for i, b in enumerate(BAD)]
)
def test_bad_input_is_one_clear_line(
    soupmerge: Typed,
    trained: list[Path],
    tmp_path: Path,
    line: str,
    make: Any,
    status: int,
    words: str,
) -> None:
    made = make(tmp_path, trained[0]) if make else ""
    before = files_of(tmp_path), trained[0].read_bytes()
    given = {"good": trained[0], "good2": trained[1], "x": made, "home": tmp_path}
    result = soupmerge(*(word.format(**given) for word in line.split()))
    assert result.status == status
    assert result.out == ""
    errors = [e for e in result.err.splitlines() if e.startswith("soupmerge: error: ")]
    assert len(errors) == 1
    assert words in result.err
    assert "Traceback" not in result.err
    after = files_of(tmp_path), trained[0].read_bytes()
    assert after[1] == before[1]
    assert {n: b for n, b in after[0].items() if n in before[0]} == before[0]
    assert not (tmp_path / "canary").exists()


def test_a_control_character_in_a_name_does_not_reach_the_terminal(
    soupmerge: Typed, tmp_path: Path
) -> None:
    state = {"evil\x1b[31m\nname": torch.tensor([float("nan")]), "b": torch.ones(1)}
    sm.save(tmp_path / "a.safetensors", state)
    result = soupmerge("inspect", tmp_path / "a.safetensors")
    assert result.status == 3
    assert "\x1b" not in result.err
    assert "\\x1b[31m\\nname" in result.err


def test_a_bug_is_one_line_and_debug_shows_where(
    soupmerge: Typed, trained: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*args: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(sm.Checkpoint, "rows", bug)
    result = soupmerge("inspect", trained[0])
    assert result.status == 70
    assert result.err.count("\n") == 1
    assert "Traceback" in soupmerge("inspect", trained[0], "--debug").err


def test_a_full_disk_behind_standard_output(trained: list[Path]) -> None:
    with open("/dev/full", "w") as full, start("inspect", trained[0], stdout=full) as process:
        _, err = process.communicate()
    assert process.returncode == 5
    assert "No space left" in err
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error(trained: list[Path]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with start("inspect", trained[0], stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate()
    assert process.returncode == 0
    assert err == ""


# ---- in processes of their own


def start(*words: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "soupmerge", *map(str, words)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    # Who runs tests in the background may have had interrupts ignored, which is inherited.
    options["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, **options)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if condition() or process.poll() is not None:
            return
        time.sleep(0.05)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_kill_9_and_resume_give_the_same_files(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    grid = ["grid", *trained, "--data", "digits", "--limit", 60, *THREATS[:4], "--steps", 40, "-q"]
    learn = [
        "learn",
        *trained,
        "--eps",
        "0.1",
        "--data",
        "digits",
        "--epochs",
        30,
        "--augment",
        "none",
        "-q",
    ]
    for words, journal in ((grid, "trials.jsonl"), (learn, "history.jsonl")):
        whole, cut = tmp_path / f"{words[0]}-whole", tmp_path / f"{words[0]}-cut"
        process = start(*words, "-o", cut)
        wait_for(lambda j=cut / journal: lines(j) >= 2, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (cut / "soup.safetensors").exists()
        assert soupmerge(*words, "-o", cut).status == 0
        assert soupmerge(*words, "-o", whole).status == 0
        assert files_of(cut) == files_of(whole)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on(
    soupmerge: Typed, trained: list[Path], tmp_path: Path, number: int, status: int
) -> None:
    words = [
        "learn",
        *trained,
        "--eps",
        "0.1",
        "--data",
        "digits",
        "--epochs",
        500,
        "-o",
        tmp_path / "run",
    ]
    process = start(*words)
    wait_for(lambda: lines(tmp_path / "run" / "history.jsonl") >= 1, process)
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode == status
    assert "Traceback" not in err
    assert "go on with: soupmerge learn" in err


def test_a_closed_pipe_is_no_error(trained: list[Path]) -> None:
    with start("inspect", *trained) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_the_demo_s_commands_can_all_be_parsed() -> None:
    import click

    from soupmerge.cli.demo import story
    from soupmerge.cli.main import cli

    for _, line in story("some where"):
        words = __import__("shlex").split(line)
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None
        command.make_context(words[0], words[1:])


@pytest.mark.skipif(os.name == "nt", reason="no LANG=C there")
def test_a_terminal_without_unicode_is_no_error(trained: list[Path]) -> None:
    process = start(
        "eval",
        trained[0],
        *FEW,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    )
    out, err = process.communicate()
    assert process.returncode == 0, err
