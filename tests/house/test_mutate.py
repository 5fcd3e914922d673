"""The mutation run: its sample, its equivalents, and its verdicts on a package of one file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cosmic_ray", reason="needs the extra: pip install 'soupmerge[mutation]'")
pytest.importorskip("coverage", reason="needs the extra: pip install 'soupmerge[mutation]'")

SCRIPTS = Path(__file__).parents[2] / "scripts"
HALF = """def half(x: int) -> int:
    return x // 2


def unused(x: int) -> int:
    return x + 2
"""
TEST = """from soupmerge.soups.half import half


def test_half():
    assert [half(x) for x in range(4)] == [0, 0, 1, 1]
"""


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from mutating import sites

    return sites


def test_a_larger_sample_contains_the_smaller_and_is_even(sites: Any) -> None:
    files = ["soupmerge/soups/half.py", "soupmerge/weights/half.py"]
    made = [m for file in files for m in sites.sites(file, HALF)]
    rooms = ["weights", "soups"]
    small, large = (sites.sample(made, rooms, number, seed=3) for number in (4, 8))
    assert large[:4] == small
    assert Counter(sites.room_of(m.file) for m in large) == {"weights": 4, "soups": 4}
    assert sites.sample(made[::-1], rooms, 8, seed=3) == large
    assert sites.sample(made, rooms, 8, seed=4) != large


def test_an_edit_elsewhere_leaves_the_sample(sites: Any) -> None:
    longer = "def other(): return 3\n" + HALF
    names = [
        {m.name for m in sites.sites("soupmerge/soups/half.py", source)}
        for source in (HALF, longer)
    ]
    assert names[0] < names[1]


def test_types_and_messages_are_not_changed(sites: Any) -> None:
    source = "from __future__ import annotations\nx: int | str = f(1 | 2)\nraise E('name', 3)\n"
    kinds = Counter(m.operator for m in sites.sites("soupmerge/errors.py", source))
    assert kinds == {
        "NumberReplacer": 4,
        "ReplaceBinaryOperator_BitOr_BitAnd": 1,
        "DeleteStatement": 1,
    }


def test_equivalents_are_found_by_their_lines_and_stale_ones_told(
    sites: Any, tmp_path: Path
) -> None:
    (tmp_path / "soupmerge" / "soups").mkdir(parents=True)
    (tmp_path / "soupmerge" / "soups" / "half.py").write_text(HALF)
    entry = '[[equivalent]]\nfile = "soupmerge/soups/half.py"\nreason = "so it is"\n'
    path = tmp_path / "equivalents.toml"
    path.write_text(
        f'{entry}old = "return x // 2"\nnew = "return x * 2"\nscope = "half"\n'
        f'{entry}old = "return x + 2"\nnew = "return x - 2"\nscope = "half"\n'
        f'{entry}old = "return x + 3"\nnew = "return x - 3"\n'
    )
    listed = sites.Equivalents(path)
    moved = "\n\n" + HALF
    found = [m for m in sites.sites("soupmerge/soups/half.py", moved) if listed.reason(m)]
    assert [m.operator for m in found] == ["ReplaceBinaryOperator_FloorDiv_Mul"]
    assert [entry["old"] for entry in listed.stale(tmp_path)] == ["return x + 3"]


def test_what_a_test_notices_is_caught_and_what_none_runs_is_not_covered(tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pyproject.toml").write_text("")
    for folder in ("soupmerge", "soupmerge/soups", "tests", "tests/soups"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "soupmerge" / "soups" / "half.py").write_text(HALF)
    (tmp_path / "tests" / "soups" / "test_half.py").write_text(TEST)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    words = [sys.executable, tmp_path / "scripts" / "mutate", "--room", "soups"]
    run = subprocess.run(
        [*words, "-j", "2", "--show", "--json", tmp_path / "numbers.json"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "numbers.json").read_text())["soups"]
    assert (found["mutants"], found["caught"], found["not covered"]) == (6, 3, 3)
    assert "-    return x + 2\n+    return x - 2" in run.stdout
    assert "-    return x // 2\n" not in run.stdout
