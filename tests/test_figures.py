"""Figures are drawn from run folders, the same from the same files."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import soupmerge as sm
from soupmerge.errors import InputError
from soupmerge.figures.drawing import draw
from soupmerge.soups.comparing import Entry, compare


@pytest.fixture
def chooser() -> sm.Benchmark:
    images = sm.data("digits", split="val", limit=30)
    return sm.Benchmark(images, [sm.APGD(sm.Linf(0.1), steps=2)])


def check(paths: list[str], names: list[str]) -> None:
    assert [Path(p).name for p in paths] == names
    for path in paths:
        with Image.open(path) as picture:
            picture.verify()
            assert min(picture.size) > 400


@pytest.mark.parametrize(
    ("k", "names"), [(3, ["ternary.png", "front.png"]), (2, ["path.png", "front.png"])]
)
def test_a_grid_s_figures(
    trained: list[Path], chooser: sm.Benchmark, tmp_path: Path, k: int, names: list[str]
) -> None:
    pots = sm.load(*trained[:k])
    sm.grid(sm.model(like=pots), pots, chooser, step=0.5, out=tmp_path / "run")
    check(draw(tmp_path / "run"), names)
    before = {p: Path(p).read_bytes() for p in draw(tmp_path / "run")}
    assert {p: Path(p).read_bytes() for p in draw(tmp_path / "run")} == before


def test_figures_of_learning_and_of_a_comparison(
    trained: list[Path], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    pots = sm.load(*trained)
    net, few = sm.model(like=pots), sm.data("digits", split="train", limit=64)
    sm.learn(net, pots, few, sm.against(None), epochs=2, out=tmp_path / "learned")
    check(draw(tmp_path / "learned"), ["learning.png"])
    soup = sm.load(tmp_path / "learned" / "soup.safetensors")[0]
    compare([Entry(c, net) for c in (*pots, soup)], chooser, out=tmp_path / "judged")
    check(draw(tmp_path / "judged"), ["comparison.png"])


def test_what_is_no_run_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run folder"):
        draw(tmp_path)
