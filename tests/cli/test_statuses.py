"""Every command ends as documented: its status, the place of the offence, and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import soupmerge as sm
from soupmerge import errors
from tests.cli.lines import LINES
from tests.shared import files_of

Typed = Callable[..., Any]


# ---- The same offence, whatever the command.

WITH_REF = [name for name, line in LINES.items() if "{a}" in line.words and " " not in name]
WITH_OUT = [name for name in WITH_REF if " -o " in LINES[name].words]
TAKES_CODE = ("convert",)
"""Commands that take the numbers out of a file that names code, and run nothing of it."""

SAYS_SO = {"inspect": 0, "check": 1}
"""Commands whose answer it is that a file holds NaN."""


class Evil:
    """Runs a command when it is unpickled by anyone who does that."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch canary",)


def typed(name: str, soupmerge: Typed, larder: Path, *more: object, a: object = None) -> Any:
    """Type the line *name* in the present folder, with *a* for its first file."""
    given = {letter: larder / f"{letter}.safetensors" for letter in "abc"}
    words = LINES[name].words.format(**{**given, "a": a or given["a"]}).split()
    return soupmerge(*words, *more)


def refused(said: Any, status: int, place: str, fix: str) -> None:
    """Require one error with its status, the place of the offence and what to do; no traceback."""
    assert said.status == status, said.err
    assert said.out == ""
    (error,) = [e for e in said.err.splitlines() if e.startswith("soupmerge: error: ")]
    assert place in error
    assert fix in said.err
    assert "Traceback" not in said.err


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", WITH_REF)
def test_a_file_that_is_not_there_is_named(
    soupmerge: Typed, larder: Path, here: Path, name: str
) -> None:
    said = typed(name, soupmerge, larder, a="nowhere.safetensors")
    refused(said, errors.InputError.exit_status, "nowhere.safetensors: ", "no such file")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", WITH_REF)
def test_a_file_that_names_code_is_refused(
    soupmerge: Typed, larder: Path, here: Path, name: str
) -> None:
    torch.save({"w": torch.ones(1), "x": Evil()}, here / "evil.pt")
    said = typed(name, soupmerge, larder, a="evil.pt")
    if name in TAKES_CODE:
        assert said.status == 0
    else:
        refused(said, errors.UnsafeError.exit_status, "evil.pt: ", "soupmerge convert")
    assert not (here / "canary").exists()


@pytest.mark.parametrize("name", WITH_REF)
def test_a_site_is_not_asked_offline(
    soupmerge: Typed, larder: Path, here: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(here / "cache"))
    said = typed(name, soupmerge, larder, "--offline", a="hf-hub:nobody/nothing")
    refused(said, errors.NetworkError.exit_status, "hf-hub:nobody/nothing", "; ")


@pytest.mark.parametrize("name", WITH_REF)
def test_numbers_that_are_none_are_named(
    soupmerge: Typed, larder: Path, here: Path, name: str
) -> None:
    with_nan(here, larder / "a.safetensors")
    said = typed(name, soupmerge, larder, a="nan.safetensors")
    assert said.status == SAYS_SO.get(name, errors.NumericsError.exit_status), said.err
    assert "head.bias" in said.out + said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("name", WITH_OUT)
def test_what_is_somebody_else_s_is_not_replaced(
    soupmerge: Typed, larder: Path, here: Path, name: str
) -> None:
    (here / "out.safetensors").write_text("precious")
    (here / "run").mkdir()
    (here / "run" / "thesis.txt").write_text("precious")
    before = files_of(here)
    said = typed(name, soupmerge, larder)
    refused(said, errors.OutputError.exit_status, ": ", "choose another -o")
    assert files_of(here) == before


def test_there_are_commands_with_files_and_outputs() -> None:
    assert len(WITH_REF) == 14
    assert len(WITH_OUT) == 11


STATUSES = {
    0: "done", 1: "a check said no", 2: "usage", 3: "bad input", 4: "refused as unsafe",
    5: "output or environment", 6: "network", 7: "non-finite numbers", 70: "a bug of ours",
}  # fmt: skip


def test_the_readme_lists_the_statuses_of_the_code() -> None:
    text = " ".join((Path(__file__).parents[2] / "README.md").read_text().split())
    for status, meaning in STATUSES.items():
        assert f"{status} {meaning}" in text
    kinds = [errors.SoupmergeError, *errors.SoupmergeError.__subclasses__()]
    assert sorted(kind.exit_status for kind in kinds) == [s for s in STATUSES if s > 1]


# ---- Offences of one command each.


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
    ("eval {x} --data digits", corrupt, 3, "cut.safetensors: is a damaged safetensors file"),
    ("eval {x} --data digits", foreign, 3, "web page"),
    ("grid {good} {x} --data digits -o {home}/r", narrower, 3, "do not fit together"),
    ("eval {good} --data digits --model digits-cnn?width=4", None, 3, "does not fit the model"),
    ("eval {good} --data digits --model resnet8", None, 2, "did you mean 'resnet9'"),
    ("eval {x} --data digits", narrower, 2, "--model NAME"),
    (EVAL + " --threat l3:1", None, 2, "unknown norm 'l3'"),
    (EVAL + " --threat linf:0.1 --threat linf:0.1", None, 2, "more than once"),
    ("eval {good} --data digits --split tets", None, 2, "unknown split 'tets'"),
    ("eval {good} --data digits --limit 5000", None, 2, "limit 5000"),
    ("eval {good} --data npz:{x}", off_range, 3, "divide by 255"),
    ("eval {good} --data npz:{x}", many_classes, 3, "label 12"),
    ("eval {good} --data folder:nowhere", None, 3, "no such folder"),
    ("learn {good} --eps 0 --data digits -o {home}/r", None, 2, "two or more"),
    (
        "learn {good} {good2} --eps 0 --data digits --groups layer -o {home}/r",
        None,
        2,
        "unknown grouping 'layer'",
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
    ("grid {good} {good2} --data digits -o {good}/r", None, 5, "cannot create the folder"),
    (MIX + " -o {home}/s.safetensors", None, 2, "give one of the two"),
    (MIX + " -w .5,.5 -o {home}/s.pt", None, 2, "cannot write '.pt' files"),
    ("mix --recipe {good} -o {home}/s.safetensors", None, 3, "is not a recipe"),
    ("finetune {good} --threat linf:0.1 --data digits -o {x}", occupied, 5, "already exists"),
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
    ("eval {good} --data folder:{x}/pictures", pipe, 3, "not files or links to files: cat/a.png"),
    ("eval {good} --data npz:{x}/x.npz", pipe, 3, "not a regular file"),
    ("eval {good} --data digits:foo", None, 2, "takes nothing after a colon"),
    ("eval {good} --data digits:", None, 2, "ends with a colon"),
    ("eval {good} --data folder:", None, 2, "ends with a colon"),
    ("eval {good} --data digits --mean nan --std 1", None, 2, "is not a number"),
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
    larder: Path,
    tmp_path: Path,
    line: str,
    make: Any,
    status: int,
    words: str,
) -> None:
    good, good2 = (larder / f"{name}.safetensors" for name in "ab")
    made = make(tmp_path, good) if make else ""
    before = files_of(tmp_path), good.read_bytes()
    given = {"good": good, "good2": good2, "x": made, "home": tmp_path}
    said = soupmerge(*(word.format(**given) for word in line.split()))
    refused(said, status, "", words)
    after = files_of(tmp_path), good.read_bytes()
    assert after[1] == before[1]
    assert {n: b for n, b in after[0].items() if n in before[0]} == before[0]
    assert not (tmp_path / "canary").exists()
